package tools

import (
	"context"
	"database/sql"
	"errors"

	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

type gormProgram struct{ db *gorm.DB }

type gormAccount struct {
	ID    int64 `gorm:"primaryKey;autoIncrement:false"`
	Cents int64
}

func (gormAccount) TableName() string { return "accounts" }

func openGORM(to *target) (program, error) {
	db, err := gorm.Open(gormDialector(to.engine, to.handle), &gorm.Config{Logger: logger.Discard})
	return gormProgram{db}, err
}

// gormDialector has the handle that GORM is to work on: sql.Open("dblocker", ...).
func gormDialector(e *engine, handle *sql.DB) gorm.Dialector {
	switch e {
	case postgresEngine:
		return postgres.New(postgres.Config{Conn: handle})
	case mariadbEngine:
		return mysql.New(mysql.Config{Conn: handle})
	}
	return sqlite.Dialector{Conn: handle}
}

func (p gormProgram) Migrate(ctx context.Context) error {
	return p.db.WithContext(ctx).AutoMigrate(&gormAccount{})
}

func (p gormProgram) Create(ctx context.Context, id int64) error {
	return p.db.WithContext(ctx).Create(&gormAccount{ID: id}).Error
}

func (p gormProgram) Cents(ctx context.Context, id int64) (int64, error) {
	var a gormAccount
	err := p.db.WithContext(ctx).First(&a, id).Error
	return a.Cents, err
}

func (p gormProgram) Add(ctx context.Context, id int64) error {
	db := p.db
	return db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var a gormAccount
		if err := tx.First(&a, id).Error; err != nil {
			return err
		}
		a.Cents++
		return tx.Save(&a).Error
	})
}

func (p gormProgram) AddNested(ctx context.Context, id int64) error {
	return p.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		err := tx.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Save(&gormAccount{ID: id, Cents: -1}).Error, errRolledBack)
		})
		if err != nil && err.Error() != errRolledBack.Error() {
			return err
		}
		return gormProgram{tx}.Add(ctx, id)
	})
}

func (p gormProgram) AddEach(ctx context.Context, from, to int64) error {
	db := p.db.WithContext(ctx)
	rows, err := db.Model(&gormAccount{}).Where("id >= ? AND id < ?", from, to).Rows()
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var a gormAccount
		if err := db.ScanRows(rows, &a); err != nil {
			return err
		}
		a.Cents++
		if err := db.Save(&a).Error; err != nil {
			return err
		}
	}
	return rows.Err()
}

func (p gormProgram) Leak(ctx context.Context) error {
	return first(p.db.WithContext(ctx).Model(&gormAccount{}).Rows())
}
