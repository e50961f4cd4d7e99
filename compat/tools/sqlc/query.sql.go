package sqlc

import (
	"context"
)

const createAccount = `-- name: CreateAccount :one
INSERT INTO accounts (id, cents) VALUES ($1, 0) RETURNING id, cents
`

func (q *Queries) CreateAccount(ctx context.Context, id int64) (Account, error) {
	row := q.db.QueryRowContext(ctx, createAccount, id)
	var i Account
	err := row.Scan(&i.ID, &i.Cents)
	return i, err
}

const getAccount = `-- name: GetAccount :one
SELECT id, cents FROM accounts WHERE id = $1
`

func (q *Queries) GetAccount(ctx context.Context, id int64) (Account, error) {
	row := q.db.QueryRowContext(ctx, getAccount, id)
	var i Account
	err := row.Scan(&i.ID, &i.Cents)
	return i, err
}

const listAccounts = `-- name: ListAccounts :many
SELECT id, cents FROM accounts WHERE id >= $1 AND id < $2
`

type ListAccountsParams struct {
	ID   int64
	ID_2 int64
}

func (q *Queries) ListAccounts(ctx context.Context, arg ListAccountsParams) ([]Account, error) {
	rows, err := q.db.QueryContext(ctx, listAccounts, arg.ID, arg.ID_2)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var items []Account
	for rows.Next() {
		var i Account
		if err := rows.Scan(&i.ID, &i.Cents); err != nil {
			return nil, err
		}
		items = append(items, i)
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return items, nil
}

const setCents = `-- name: SetCents :exec
UPDATE accounts SET cents = $1 WHERE id = $2
`

type SetCentsParams struct {
	Cents int64
	ID    int64
}

func (q *Queries) SetCents(ctx context.Context, arg SetCentsParams) error {
	_, err := q.db.ExecContext(ctx, setCents, arg.Cents, arg.ID)
	return err
}
