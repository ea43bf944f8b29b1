package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Table stores the nouns of one type. Every write records a version row where
// the noun has versions, a redacted audit row and a change row, in the same
// transaction. Values given to a write belong to the caller again afterwards;
// their Meta is put back when the transaction is rolled back.
type Table[T any, ID ~string] struct {
	d    *DB
	n    noun[T, ID]
	cols map[string]*column[T]
	fix  func(*T) // restores what JSON does not keep apart

	insert, update, remove, pick string
	hold                         string // locks the row that pick reads; empty: nobody else writes
}

// table prepares the statements of a noun.
func table[T any, ID ~string](d *DB, n noun[T, ID]) *Table[T, ID] {
	t := &Table[T, ID]{d: d, n: n, cols: map[string]*column[T]{}, fix: nullFixer[T]()}
	names := []string{"id", "tenant", "rev", "created", "updated", "created_by", "updated_by", "doc"}
	var b builder
	b.Str("UPDATE " + n.table + " SET rev = rev + 1, updated = ").Arg(nil).Str(", updated_by = ").Arg(nil).Str(", doc = ").Arg(nil)
	for i := range n.columns {
		c := &n.columns[i]
		t.cols[c.name] = c
		names = append(names, `"`+c.name+`"`)
		b.Str(`, "` + c.name + `" = `).Arg(nil)
		if c.form.folds() {
			names = append(names, "f_"+c.name)
			b.Str(", f_" + c.name + " = ").Arg(nil)
		}
	}
	b.Str(" WHERE id = ").Arg(nil).Str(" AND tenant = ").Arg(nil).Str(" AND rev = ").Arg(nil)
	t.update = b.String()
	marks := make([]string, len(names))
	for i := range marks {
		marks[i] = fmt.Sprintf("$%d", i+1)
	}
	t.insert = "INSERT INTO " + n.table + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
	t.remove = "DELETE FROM " + n.table + " WHERE id = $1 AND tenant = $2 AND rev = $3"
	t.pick = "SELECT " + rowColumns + " FROM " + n.table + " n JOIN blobs b ON b.hash = n.doc" +
		" WHERE n.id = $1 AND ($2 = '' OR n.tenant = $3) ORDER BY n.tenant LIMIT 1"
	if d.dial.lock != "" {
		t.hold = "SELECT 1 FROM " + n.table + " WHERE id = $1 AND ($2 = '' OR tenant = $3) ORDER BY tenant LIMIT 1" + d.dial.lock
	}
	return t
}

func base[T any](v *T) *apim.Meta { return any(v).(interface{ Base() *apim.Meta }).Base() }

// values are the noun's searchable columns in the order of the statements.
func (t *Table[T, ID]) values(v *T) []any {
	out := make([]any, 0, 2*len(t.n.columns))
	for i := range t.n.columns {
		c := &t.n.columns[i]
		val := stored(c.of(v))
		out = append(out, val)
		if c.form.folds() {
			out = append(out, strings.ToLower(val.(string)))
		}
	}
	return out
}

// Create stores a new noun: it sets Rev, the times, who created it, and an ID
// if there is none. fault.Exists has the hurt unique key's name as its Detail:
// "id", or as the contract of the noun says, for example "name".
func (t *Table[T, ID]) Create(ctx context.Context, s apim.Scope, v *T) error {
	m := base(v)
	tenant, err := t.tenantFor(s, v)
	if err != nil {
		return err
	}
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		old, oldID := *m, *t.n.id(v)
		x.undo = append(x.undo, func() { *m = old; *t.n.id(v) = oldID })
		m.Tenant = tenant
		if id := t.n.id(v); *id == "" {
			if t.n.fallback != nil {
				*id = t.n.fallback(v)
			} else {
				*id = ID(uuid.NewString())
			}
		}
		actor, now := apim.ActorFrom(ctx), t.d.now()
		if m.CreatedBy == "" || !actor.System {
			m.CreatedBy = actor.User
		}
		m.Rev, m.CreatedAt, m.UpdatedAt, m.UpdatedBy = 1, now, now, m.CreatedBy
		doc, err := encode(v, m)
		if err != nil {
			return err
		}
		r := record{action: "create", after: doc, pins: t.pins(v)}
		if err := t.saveDoc(ctx, x, &r); err != nil {
			return err
		}
		id := string(*t.n.id(v))
		args := append([]any{id, string(tenant), 1, micros(now), micros(now), m.CreatedBy, m.UpdatedBy, doc.hash}, t.values(v)...)
		if _, err := x.exec(ctx, t.insert, args...); err != nil {
			return err
		}
		return t.record(ctx, x, v, &r)
	})
	if err != nil {
		return fmt.Errorf("create %s: %w", t.n.kind, err)
	}
	return nil
}

// tenantFor is the tenant of a new noun, which the scope must see.
func (t *Table[T, ID]) tenantFor(s apim.Scope, v *T) (apim.TenantID, error) {
	tenant := base(v).Tenant
	if t.n.tenant != nil {
		tenant = t.n.tenant(v)
	}
	if tenant == "" {
		tenant = s.Tenant()
	}
	if tenant == "" || !s.Sees(tenant) {
		return "", fmt.Errorf("create %s: %w", t.n.kind, fault.NotPermitted.With("the tenant is outside of the scope"))
	}
	return tenant, nil
}

// Update replaces the noun if its Rev is still v's, which it increments;
// fault.PreconditionBad if it has moved, fault.Missing if there is none.
func (t *Table[T, ID]) Update(ctx context.Context, s apim.Scope, v *T) error {
	if !s.Valid() {
		return fmt.Errorf("update %s: %w", t.n.kind, fault.Missing.With(t.n.kind))
	}
	m := base(v)
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		id := *t.n.id(v)
		was, old, err := t.load(ctx, x, s, id, m.Tenant)
		if err != nil {
			return err
		}
		om := base(was)
		if om.Rev != m.Rev {
			return fault.PreconditionBad.Withf("%s has changed since it was read", t.n.kind)
		}
		kept := *m
		x.undo = append(x.undo, func() { *m = kept })
		now := t.d.now()
		if !now.After(om.UpdatedAt) {
			now = om.UpdatedAt // a clock that went back does not take history along
		}
		by := apim.ActorFrom(ctx).User
		*m = *om
		m.Rev, m.UpdatedAt, m.UpdatedBy = om.Rev+1, now, by
		doc, err := encode(v, m)
		if err != nil {
			return err
		}
		r := record{action: "update", before: old, after: doc, pins: t.pins(v), unpins: t.pins(was)}
		if err := t.saveDoc(ctx, x, &r); err != nil {
			return err
		}
		args := append([]any{micros(now), by, doc.hash}, t.values(v)...)
		args = append(args, string(id), string(om.Tenant), om.Rev)
		n, err := x.affect(ctx, t.update, args...)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.PreconditionBad.Withf("%s has changed since it was read", t.n.kind)
		}
		return t.record(ctx, x, v, &r)
	})
	if err != nil {
		return fmt.Errorf("update %s: %w", t.n.kind, err)
	}
	return nil
}

// Delete removes the noun; fault.Missing if there is none in the scope.
func (t *Table[T, ID]) Delete(ctx context.Context, s apim.Scope, id ID) error {
	if !s.Valid() {
		return fmt.Errorf("delete %s: %w", t.n.kind, fault.Missing.With(t.n.kind))
	}
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		was, old, err := t.load(ctx, x, s, id, "")
		if err != nil {
			return err
		}
		m := base(was)
		n, err := x.affect(ctx, t.remove, string(id), string(m.Tenant), m.Rev)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing.With(t.n.kind)
		}
		r := record{action: "delete", before: old, unpins: t.pins(was)}
		if err := t.saveDoc(ctx, x, &r); err != nil {
			return err
		}
		return t.record(ctx, x, was, &r)
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", t.n.kind, err)
	}
	return nil
}

// load reads the row about to be changed, and holds it where the engine can.
// want narrows a scope across tenants to the tenant the caller's value names.
func (t *Table[T, ID]) load(ctx context.Context, x *tx, s apim.Scope, id ID, want apim.TenantID) (*T, document, error) {
	tenant := string(s.Tenant())
	if tenant == "" {
		tenant = string(want)
	} else if want != "" && string(want) != tenant {
		return nil, document{}, fault.Missing.With(t.n.kind)
	}
	// Waiting for the lock and reading are two statements: the first may wait for
	// a row whose document the second, begun later, can see.
	if t.hold != "" {
		if _, err := x.exec(ctx, t.hold, string(id), tenant, tenant); err != nil {
			return nil, document{}, err
		}
	}
	v, doc, err := t.first(x.query(ctx, t.pick, string(id), tenant, tenant))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, document{}, fault.Missing.With(t.n.kind)
	}
	return v, doc, err
}

// pins are the documents a noun holds.
func (t *Table[T, ID]) pins(v *T) []string {
	if t.n.blobs == nil {
		return nil
	}
	var out []string
	for _, b := range t.n.blobs(v) {
		if b != "" {
			out = append(out, string(b))
		}
	}
	return out
}
