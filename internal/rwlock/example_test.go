package rwlock_test

import (
	"context"
	"fmt"
	"time"

	"github.com/calmdocs/dblocker/internal/rwlock"
)

func ExampleTable() {
	table := rwlock.NewTable()
	ctx := context.Background()

	tx := rwlock.Hold{Kind: rwlock.Tx, Label: rwlock.Tagged("rename files")}
	if err := table.Acquire(ctx, "user 123", rwlock.Exclusive, &tx, rwlock.Wait{Timeout: time.Minute}); err != nil {
		fmt.Println(err)
	}

	var query rwlock.Hold
	err := table.Acquire(ctx, "user 123", rwlock.Shared, &query, rwlock.Wait{})
	fmt.Println(err)
	err = table.Acquire(ctx, "user 456", rwlock.Shared, &query, rwlock.Wait{})
	fmt.Println(err)

	query.Release()
	tx.Release()
	fmt.Println(table.Len(), "locks in use")
	// Output:
	// lock timeout: shared lock of "user 123" not granted after 0s: transaction "rename files" has held it for 0s (exclusive)
	// <nil>
	// 0 locks in use
}

func ExampleAcquireAll() {
	users, gate := rwlock.NewTable(), rwlock.NewLock("write gate", 0)

	var user, writer rwlock.Hold
	err := rwlock.AcquireAll(context.Background(), rwlock.Wait{Timeout: time.Minute},
		rwlock.Request{Table: users, Key: "123", Mode: rwlock.Exclusive, Hold: &user},
		rwlock.Request{Lock: gate, Mode: rwlock.Exclusive, Hold: &writer})
	fmt.Println(err, user.Held(), writer.Held())
	writer.Release()
	user.Release()
	// Output:
	// <nil> true true
}
