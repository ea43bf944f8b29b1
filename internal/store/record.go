package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// record is what a write leaves behind beside its row.
type record struct {
	action        string   // create, update, delete
	before, after document // without bytes where there is none
	pins, unpins  []string // documents held by the noun after and before
}

// saveDoc stores the new document and moves the references: a noun holds its
// document and what that points to, and a version row holds the same again.
func (t *Table[T, ID]) saveDoc(ctx context.Context, x *tx, r *record) error {
	move := map[string]int64{}
	if r.after.bytes != nil {
		if err := putBlob(ctx, x, r.after); err != nil {
			return err
		}
		share := int64(1)
		if t.n.versioned {
			share = 2
		}
		for _, h := range append([]string{r.after.hash}, r.pins...) {
			move[h] += share
		}
	}
	if r.before.bytes != nil {
		for _, h := range append([]string{r.before.hash}, r.unpins...) {
			move[h]--
		}
	}
	return moveRefs(ctx, x, move)
}

// moveRefs adds to reference counts in the order of the hashes, so that two
// transactions cannot wait for each other.
func moveRefs(ctx context.Context, x *tx, move map[string]int64) error {
	hashes := make([]string, 0, len(move))
	for h, by := range move {
		if by != 0 {
			hashes = append(hashes, h)
		}
	}
	slices.Sort(hashes)
	for _, h := range hashes {
		n, err := x.affect(ctx, "UPDATE blobs SET refs = refs + $1, touched = $2 WHERE hash = $3", move[h], micros(x.d.now()), h)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("document %.12s is not stored", h)
		}
	}
	return nil
}

// record writes the version, audit and change rows of a write.
func (t *Table[T, ID]) record(ctx context.Context, x *tx, v *T, r *record) error {
	m, id, actor := base(v), string(*t.n.id(v)), apim.ActorFrom(ctx)
	now := micros(t.d.now())
	if t.n.versioned && r.after.bytes != nil {
		_, err := x.exec(ctx, `INSERT INTO versions (tenant, kind, object, rev, at, who, action, doc, pins)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
			string(m.Tenant), t.n.kind, id, m.Rev, now, actor.User, r.action, r.after.hash, strings.Join(r.pins, " "))
		if err != nil {
			return err
		}
	}
	before, after := redactedDiff(r.before.bytes, r.after.bytes)
	if err := audit(ctx, x, m.Tenant, t.n.kind, id, r.action, before, after); err != nil {
		return err
	}
	c := apim.Change{Tenant: m.Tenant, Kind: t.n.kind, Object: id, Op: r.action}
	if p, ok := any(v).(apim.Parented); ok {
		c.Parent = p.ChangeParent()
	} else if t.n.parent != nil {
		c.Parent = t.n.parent(v)
	}
	return emit(ctx, x, c)
}

// emit adds a change row, which the relay versions after the commit.
func emit(ctx context.Context, x *tx, c apim.Change) error {
	var id int64
	rows, err := x.query(ctx, `INSERT INTO changes (at, tenant, kind, object, op, parent, epoch, seq)
		VALUES ($1, $2, $3, $4, $5, $6, 0, 0) RETURNING id`,
		micros(x.d.now()), string(c.Tenant), c.Kind, clean(c.Object), c.Op, clean(c.Parent))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&id); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	x.changes = append(x.changes, id)
	return rows.Close()
}
