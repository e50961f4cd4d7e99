-- name: CreateAccount :one
INSERT INTO accounts (id, cents) VALUES ($1, 0) RETURNING id, cents;

-- name: GetAccount :one
SELECT id, cents FROM accounts WHERE id = $1;

-- name: ListAccounts :many
SELECT id, cents FROM accounts WHERE id >= $1 AND id < $2;

-- name: SetCents :exec
UPDATE accounts SET cents = $1 WHERE id = $2;
