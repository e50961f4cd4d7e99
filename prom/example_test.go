package dblockerprom_test

import (
	"database/sql/driver"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/calmdocs/dblocker"
	dblockerprom "github.com/calmdocs/dblocker/prom"
)

// inPackageDoc has the snippet of the package's comment.
func inPackageDoc(connector driver.Connector) error {
	metrics := dblockerprom.New()
	db, err := dblocker.OpenDB(connector, metrics.Observe("app"))
	if err != nil {
		return err
	}
	metrics.Add("app", db)
	prometheus.MustRegister(metrics)
	return nil
}

var _ = inPackageDoc
