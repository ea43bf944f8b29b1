package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

const rowColumns = "n.id, n.tenant, n.rev, n.created, n.updated, n.created_by, n.updated_by, n.doc, b.data"

// scan reads a row of rowColumns.
func (t *Table[T, ID]) scan(rows *sql.Rows) (*T, document, error) {
	var id, tenant, hash string
	var m apim.Meta
	var created, updated int64
	var packed sql.RawBytes
	if err := rows.Scan(&id, &tenant, &m.Rev, &created, &updated, &m.CreatedBy, &m.UpdatedBy, &hash, &packed); err != nil {
		return nil, document{}, err
	}
	m.Tenant, m.CreatedAt, m.UpdatedAt = apim.TenantID(tenant), fromMicros(created), fromMicros(updated)
	doc, err := unpack(packed)
	if err != nil {
		return nil, document{}, fmt.Errorf("read %s %s: %w", t.n.kind, id, err)
	}
	v := new(T)
	if err := decode(doc, v); err != nil {
		return nil, document{}, fmt.Errorf("read %s %s: %w", t.n.kind, id, err)
	}
	t.fix(v)
	*base(v) = m
	*t.n.id(v) = ID(id)
	return v, document{hash: hash, bytes: doc}, nil
}

// first scans the first row of a query; sql.ErrNoRows if there is none.
func (t *Table[T, ID]) first(rows *sql.Rows, err error) (*T, document, error) {
	if err != nil {
		return nil, document{}, err
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return nil, document{}, err
		}
		return nil, document{}, sql.ErrNoRows
	}
	v, doc, err := t.scan(rows)
	if err != nil {
		return nil, document{}, err
	}
	return v, doc, rows.Close()
}

// Get reads one noun; fault.Missing if the scope has none of that id.
func (t *Table[T, ID]) Get(ctx context.Context, s apim.Scope, id ID) (*T, error) {
	return t.First(ctx, s, apim.Query{Where: []apim.Cond{{Col: "id", Op: apim.Eq, Value: string(id)}}})
}

// First reads the first noun of a query; fault.Missing if there is none.
func (t *Table[T, ID]) First(ctx context.Context, s apim.Scope, q apim.Query) (*T, error) {
	q.Limit = 1
	b, err := t.where(s, q)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", t.n.kind, err)
	}
	stmt, args, err := t.page(b, q)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", t.n.kind, err)
	}
	v, _, err := t.first(t.d.query(ctx, stmt, args...))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fault.Missing.With(t.n.kind)
	case err != nil:
		return nil, fmt.Errorf("get %s: %w", t.n.kind, t.d.dial.fault(err))
	}
	return v, nil
}

// List reads a page and counts all hits.
func (t *Table[T, ID]) List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[T], error) {
	p := apim.Page[T]{Items: []*T{}}
	b, err := t.where(s, q)
	if err != nil {
		return p, fmt.Errorf("list %s: %w", t.n.kind, err)
	}
	stmt, args, err := t.page(b, q)
	if err != nil {
		return p, fmt.Errorf("list %s: %w", t.n.kind, err)
	}
	err = t.d.each(ctx, stmt, args, func(rows *sql.Rows) error {
		v, _, err := t.scan(rows)
		if err == nil {
			p.Items = append(p.Items, v)
		}
		return err
	})
	if err != nil {
		return p, fmt.Errorf("list %s: %w", t.n.kind, err)
	}
	p.Total = q.Offset + len(p.Items)
	if n := len(p.Items); (q.Limit > 0 && n == q.Limit) || (n == 0 && q.Offset > 0) {
		if p.Total, err = t.count(ctx, b); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Count counts the hits of a query, without regard to its page.
func (t *Table[T, ID]) Count(ctx context.Context, s apim.Scope, q apim.Query) (int, error) {
	b, err := t.where(s, q)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.n.kind, err)
	}
	return t.count(ctx, b)
}

func (t *Table[T, ID]) count(ctx context.Context, b *builder) (int, error) {
	var n int
	err := t.d.one(ctx, "SELECT count(*) FROM "+t.n.table+" n"+b.String(), b.args, &n)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", t.n.kind, err)
	}
	return n, nil
}
