// Package compat proves on real servers that a driver wrapped by dblocker
// behaves as the bare one. It has only tests, and is a module of its own so that
// pgx and modernc.org/sqlite stay out of dblocker's dependencies.
//
// The heart of it is TestSameAsBare (differential_test.go): each step of a script
// runs on the bare driver and through dblocker, and all that a program could
// observe goes into a transcript. The transcripts must be the same but for the
// lines in allowedDifferences. To add a case, add it to one of the tables:
//
//   - drivers_test.go: the drivers, and which DSNs they are run with;
//   - script_test.go: steps that run on every driver;
//   - sqlite_test.go, postgres_test.go, mysql_test.go: each engine's column types
//     and steps.
package compat
