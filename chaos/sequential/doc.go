// Package sequential shows that calls which dblocker combines on SQLite are told what calls are told that run one after the
// other: the rows they have changed, the id they have inserted, what they have read, and their own error.
//
//	go test .                                                         # some 15 seconds
//	go test . -run Combined/mattn,_full -sequential.duration=1m -sequential.seed=42
//
// Clients call all at once (scenes_test.go): for some users and for none, by text and prepared, in sections, in transactions, with contexts
// that end. Much of what they call fails (ops_test.go): by a constraint, by what ends the transaction of SQLite's (OR ROLLBACK,
// RAISE(ROLLBACK)), with a foreign key that is looked at when the transaction ends, by a panic of the driver, by a full
// database, or since the file cannot be written or not be synced.
//
// A model says what each is told where the database is in a given state (model_test.go); TestModelIsSQLite compares it with the bare
// drivers. What was told is then put in order, so that the model says the same, and none comes before one that had
// ended when it began (order_test.go). Triggers keep a journal of who has written, which makes that order easy to find. At its
// end the model must have what is in the database.
package sequential
