// Package schema is what ent's generator reads.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// An Account has cents.
type Account struct{ ent.Schema }

// Fields implements ent.Interface.
func (Account) Fields() []ent.Field {
	return []ent.Field{field.Int64("id"), field.Int64("cents")}
}
