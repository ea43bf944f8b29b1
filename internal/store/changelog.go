package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// ChangeLog is the committed changes, the versions the leased relay gives
// them, and the snapshot items that follow from them.
type ChangeLog struct{ d *DB }

// RelayLease is the lease whose holder may Publish.
const RelayLease = "relay"

// Lease takes or renews the lease of a name. It is held if it was free, has
// run out, or is the same holder's.
func (l *ChangeLog) Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	err = l.d.write(ctx, func(ctx context.Context, x *tx) error {
		now := l.d.now()
		n, err := x.affect(ctx, `INSERT INTO leases (name, holder, expires) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires <= $4`,
			name, holder, micros(now.Add(ttl)), micros(now))
		held = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take lease %s: %w", name, err)
	}
	return held, nil
}

// ReleaseLease gives a lease up, so that another need not wait for its end.
func (l *ChangeLog) ReleaseLease(ctx context.Context, name, holder string) error {
	err := l.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, "DELETE FROM leases WHERE name = $1 AND holder = $2", name, holder)
		x.signals = true
		return err
	})
	if err != nil {
		return fmt.Errorf("release lease %s: %w", name, err)
	}
	return nil
}

// Head is the newest version given.
func (l *ChangeLog) Head(ctx context.Context) (snapshot.Version, error) {
	v, _, err := l.head(ctx, "")
	return v, err
}

func (l *ChangeLog) head(ctx context.Context, lock string) (v snapshot.Version, floor uint64, err error) {
	var epoch, seq, low int64
	if err := l.d.one(ctx, "SELECT epoch, seq, floor FROM meta WHERE id = 1"+lock, nil, &epoch, &seq, &low); err != nil {
		return v, 0, fmt.Errorf("read head: %w", err)
	}
	return snapshot.Version{Epoch: uint64(epoch), Seq: uint64(seq)}, uint64(low), nil
}

// RaiseEpoch makes every gateway resynchronise. Epochs are Unix seconds, or one
// more than the last: so two restores of one backup never share an epoch.
func (l *ChangeLog) RaiseEpoch(ctx context.Context) (v snapshot.Version, err error) {
	err = l.d.write(ctx, func(ctx context.Context, x *tx) error {
		now := l.d.now().Unix()
		_, err := x.exec(ctx, "UPDATE meta SET epoch = CASE WHEN epoch >= $1 THEN epoch + 1 ELSE $2 END WHERE id = 1", now, now)
		if err != nil {
			return err
		}
		x.signals = true
		v, err = l.Head(ctx)
		return err
	})
	if err != nil {
		return v, fmt.Errorf("raise epoch: %w", err)
	}
	return v, nil
}

// Pending lists committed changes that have no version yet, by id.
func (l *ChangeLog) Pending(ctx context.Context, limit int) ([]apim.Change, error) {
	var out []apim.Change
	err := l.d.each(ctx, "SELECT id, tenant, kind, object, op, parent FROM changes WHERE seq = 0 ORDER BY id LIMIT $1", []any{limit}, func(rows *sql.Rows) error {
		var c apim.Change
		var tenant string
		if err := rows.Scan(&c.ID, &tenant, &c.Kind, &c.Object, &c.Op, &c.Parent); err != nil {
			return err
		}
		c.Tenant = apim.TenantID(tenant)
		out = append(out, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pending changes: %w", err)
	}
	return out, nil
}

// Versioned is a change with the items that follow from it.
type Versioned = apim.Versioned

// Publish gives the changes consecutive versions and stores their items, in one
// transaction that only the holder of RelayLease can commit. An item equal to
// what is stored keeps its version. fault.PreconditionBad if the lease is lost
// or a change has a version already.
func (l *ChangeLog) Publish(ctx context.Context, holder string, changes []Versioned) (v snapshot.Version, err error) {
	packed := map[string][]byte{} // outside of the turn to write
	for _, c := range changes {
		for _, it := range c.Items {
			if !it.Deleted && packed[it.Hash] == nil {
				if !it.Valid() {
					return v, fmt.Errorf("publish: item %s is not what its hash says", it.Key)
				}
				packed[it.Hash] = pack(it.Body)
			}
		}
	}
	err = l.d.write(ctx, func(ctx context.Context, x *tx) error {
		now := micros(l.d.now())
		var held string
		err := l.d.one(ctx, "SELECT holder FROM leases WHERE name = $1 AND holder = $2 AND expires > $3"+l.d.dial.lock,
			[]any{RelayLease, holder, now}, &held)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.PreconditionBad.Withf("%s does not hold the relay's lease", holder)
		}
		if err != nil {
			return err
		}
		if v, _, err = l.head(ctx, l.d.dial.lock); err != nil {
			return err
		}
		acts := make(map[int64]int64, len(changes))
		for _, c := range changes {
			v.Seq++
			at := acts[c.With]
			for _, it := range c.Items {
				seq, err := putItem(ctx, x, it, packed[it.Hash], int64(v.Seq), now)
				if err != nil {
					return err
				}
				at = max(at, seq)
			}
			if c.Change.ID == 0 {
				continue // items that no change stands for
			}
			acts[c.Change.ID] = at
			n, err := x.affect(ctx, "UPDATE changes SET epoch = $1, seq = $2, acts = $3 WHERE id = $4 AND seq = 0",
				int64(v.Epoch), int64(v.Seq), at, c.Change.ID)
			if err != nil {
				return err
			}
			if n == 0 {
				return fault.PreconditionBad.Withf("change %d has a version already", c.Change.ID)
			}
		}
		x.signals = true
		_, err = x.exec(ctx, "UPDATE meta SET seq = $1 WHERE id = 1", int64(v.Seq))
		return err
	})
	if err != nil {
		return snapshot.Version{}, fmt.Errorf("publish: %w", err)
	}
	return v, nil
}

// putItem stores an item and returns the sequence number at which it became
// what it is now: an older one if it was that already, 0 if it never was.
func putItem(ctx context.Context, x *tx, it snapshot.Item, packed []byte, seq, now int64) (since int64, err error) {
	var n int64
	if it.Deleted {
		n, err = x.affect(ctx, `UPDATE items SET seq = $1, at = $2, deleted = 1, hash = '', size = 0, body = NULL
			WHERE kind = $3 AND id = $4 AND env = $5 AND deleted = 0`, seq, now, string(it.Kind), it.ID, it.Env)
	} else {
		n, err = x.affect(ctx, `INSERT INTO items (kind, id, env, seq, at, deleted, hash, size, body) VALUES ($1, $2, $3, $4, $5, 0, $6, $7, $8)
		ON CONFLICT (kind, id, env) DO UPDATE SET seq = excluded.seq, at = excluded.at, deleted = 0,
			hash = excluded.hash, size = excluded.size, body = excluded.body
		WHERE items.deleted = 1 OR items.hash <> excluded.hash`,
			string(it.Kind), it.ID, it.Env, seq, now, it.Hash, it.Size, packed)
	}
	if err != nil || n > 0 {
		return seq, err
	}
	err = x.d.one(ctx, "SELECT seq FROM items WHERE kind = $1 AND id = $2 AND env = $3", []any{string(it.Kind), it.ID, it.Env}, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return since, err
}

// Items is what a gateway of the given environments lacks after a version. From
// another epoch, as the zero version is, or from before the kept tombstones, the delta is Full, complete and without tombstones, whatever the
// limit. Otherwise it ends at the first version with which it has at least
// limit items; more tells that there are later ones. Bodies over
// snapshot.InlineLimit are left to Body.
func (l *ChangeLog) Items(ctx context.Context, after snapshot.Version, envs []string, limit int) (d snapshot.Delta, more bool, err error) {
	err = l.d.view(ctx, func(ctx context.Context) error {
		head, floor, err := l.head(ctx, "")
		if err != nil {
			return err
		}
		d = snapshot.Delta{Version: head}
		more = false
		d.Full = after.Epoch != head.Epoch || after.Seq < floor || after.Seq > head.Seq
		b := &builder{}
		b.Str("SELECT kind, id, env, seq, deleted, hash, size, CASE WHEN size <= ").Arg(int64(snapshot.InlineLimit))
		b.Str(" THEN body ELSE NULL END FROM items WHERE env IN (").Arg("")
		for _, e := range envs {
			b.Str(", ").Arg(e)
		}
		b.Str(")")
		if d.Full {
			b.Str(" AND deleted = 0")
		} else {
			b.Str(" AND seq > ").Arg(int64(after.Seq))
		}
		b.Str(" ORDER BY seq")
		return l.d.each(ctx, b.String(), b.args, func(rows *sql.Rows) error {
			if more {
				return nil
			}
			it, err := scanItem(rows)
			if err != nil {
				return err
			}
			if n := len(d.Items); !d.Full && limit > 0 && n >= limit && d.Items[n-1].Seq != it.Seq {
				d.Version.Seq, more = d.Items[n-1].Seq, true
				return errEnough
			}
			d.Items = append(d.Items, it)
			return nil
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return snapshot.Delta{}, false, fmt.Errorf("read items: %w", err)
	}
	return d, more, nil
}

var errEnough = errors.New("enough rows")

func scanItem(rows *sql.Rows) (snapshot.Item, error) {
	var it snapshot.Item
	var kind string
	var seq, deleted int64
	var packed sql.RawBytes
	if err := rows.Scan(&kind, &it.ID, &it.Env, &seq, &deleted, &it.Hash, &it.Size, &packed); err != nil {
		return it, err
	}
	it.Kind, it.Seq, it.Deleted = snapshot.Kind(kind), uint64(seq), deleted != 0
	if len(packed) > 0 {
		body, err := unpack(packed)
		if err != nil {
			return it, fmt.Errorf("item %s: %w", it.Key, err)
		}
		it.Body = body
		if !it.Valid() {
			return it, fmt.Errorf("item %s is damaged in the database", it.Key)
		}
	}
	return it, nil
}

// Body returns the body of an item by its hash; fault.Missing once no item has
// it any more, after which a newer delta tells why.
func (l *ChangeLog) Body(ctx context.Context, hash string) ([]byte, error) {
	var packed []byte
	err := l.d.one(ctx, "SELECT body FROM items WHERE hash = $1 AND deleted = 0 LIMIT 1", []any{hash}, &packed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.Missing.With("body")
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	body, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("read body %.12s: %w", hash, err)
	}
	if address(body) != hash {
		return nil, fmt.Errorf("read body %.12s: it is damaged in the database", hash)
	}
	return body, nil
}

// VersionsOf is the version a gateway must run for the changes to be in effect
// on it, zero if they led to no items; all is false while some of them have not
// been given theirs. Changes pruned since count as in effect.
func (l *ChangeLog) VersionsOf(ctx context.Context, changeIDs []int64) (v snapshot.Version, all bool, err error) {
	all = true
	for len(changeIDs) > 0 {
		part := changeIDs[:min(len(changeIDs), 500)]
		changeIDs = changeIDs[len(part):]
		b := &builder{}
		b.Str("SELECT epoch, seq, acts FROM changes WHERE id IN (")
		for i, id := range part {
			if i > 0 {
				b.Str(", ")
			}
			b.Arg(id)
		}
		b.Str(")")
		err = l.d.each(ctx, b.String(), b.args, func(rows *sql.Rows) error {
			var epoch, seq, acts int64
			if err := rows.Scan(&epoch, &seq, &acts); err != nil {
				return err
			}
			all = all && seq > 0
			if acts == 0 {
				return nil
			}
			if got := (snapshot.Version{Epoch: uint64(epoch), Seq: uint64(acts)}); got.Compare(v) > 0 {
				v = got
			}
			return nil
		})
		if err != nil {
			return snapshot.Version{}, false, fmt.Errorf("read versions of changes: %w", err)
		}
	}
	return v, all, nil
}

// Wake subscribes to commits that wrote changes, versions or acknowledgements:
// local ones at once, those of other processes where the engine tells. Signals
// that meet an unread one are one. cancel ends the subscription.
func (l *ChangeLog) Wake() (signals <-chan struct{}, cancel func()) { return l.d.wake.subscribe() }
