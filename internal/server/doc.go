// Package server has server connections: those of the inner driver, with all that database/sql does for a
// driver that lacks an optional interface. It keeps their statements prepared, reads ahead what their
// rows have, pools them, and keeps a driver's panic from going too far.
//
// It knows no users, locks, gates or client connections. What is around its connections it asks of a Host,
// what is special to an engine of an Engine, and what the program is to see of an error of rows of a RowsClient.
package server
