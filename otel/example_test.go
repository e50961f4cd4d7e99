package dblockerotel_test

import (
	"database/sql/driver"

	"github.com/calmdocs/dblocker"
	dblockerotel "github.com/calmdocs/dblocker/otel"
)

// inPackageDoc has the snippet of the package's comment.
func inPackageDoc(connector driver.Connector) error {
	telemetry, err := dblockerotel.New(dblockerotel.System("postgresql"), dblockerotel.Namespace("app"))
	if err != nil {
		return err
	}
	db, err := dblocker.OpenDB(connector, telemetry.Observe())
	if err != nil {
		return err
	}
	unregister, err := telemetry.Register(db)
	if err != nil {
		return err
	}
	defer unregister()
	return db.Close()
}

var _ = inPackageDoc
