// Package server has the inner driver's side of dblocker: what database/sql does for a driver that lacks
// an optional interface, and what keeps a driver's panic from going too far. It knows no users and no locks.
package server
