package tools

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"

	"github.com/calmdocs/dblocker"
)

// GORM works on a handle of dblocker. Each request gives its context, with its user, to GORM.
func Example_gorm() {
	type Account struct {
		Owner string `gorm:"primaryKey"`
		Cents int
	}
	dir, err := os.MkdirTemp("", "dblocker")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	handle, err := sql.Open("dblocker", "sqlite3:"+filepath.Join(dir, "app.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer handle.Close()
	db, err := gorm.Open(sqlite.Dialector{Conn: handle}, &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := db.AutoMigrate(&Account{}); err != nil {
		log.Fatal(err)
	}
	if err := db.Create(&Account{"ann", 0}).Error; err != nil {
		log.Fatal(err)
	}
	deposit := func(ctx context.Context) error {
		return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			var account Account
			if err := tx.First(&account, "owner = ?", "ann").Error; err != nil {
				return err
			}
			account.Cents++
			return tx.Save(&account).Error
		})
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				if err := deposit(dblocker.WithUser(context.Background(), "ann")); err != nil {
					log.Fatal(err)
				}
			}
		})
	}
	wg.Wait()
	var account Account
	if err := db.First(&account, "owner = ?", "ann").Error; err != nil {
		log.Fatal(err)
	}
	fmt.Println(account.Cents)
	// Output: 160
}
