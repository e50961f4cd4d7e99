package sqlc

type Account struct {
	ID    int64
	Cents int64
}
