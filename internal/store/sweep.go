package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// sweeper runs Sweep now and then until the store is closed.
func (d *DB) sweeper(ctx context.Context) {
	for {
		select {
		case <-time.After(d.opt.Sweep):
		case <-ctx.Done():
			return
		}
		if err := d.Sweep(ctx); err != nil && ctx.Err() == nil {
			d.opt.Log.WarnContext(ctx, "sweep of the store failed", "err", err)
		}
	}
}

// sweepBatch bounds the rows of one transaction, so that writers wait for
// milliseconds.
const sweepBatch = 200

// logKept is how long versioned changes and tombstones are kept.
const logKept = 7 * 24 * time.Hour

// Sweep removes what retention has ended: old version and audit rows, blobs
// nobody refers to, expired tokens and ephemera, versioned changes, tombstones, gone gateways. It
// runs in the background, in short transactions; other processes may run it
// at the same time.
func (d *DB) Sweep(ctx context.Context) error {
	if _, err := d.Tokens.Prune(ctx, d.now()); err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, step := range []func(context.Context, *tx) (int64, error){
		d.sweepVersions, d.sweepAudits, d.sweepBlobs, d.sweepEphemera, d.sweepLog,
	} {
		for {
			var n int64
			err := d.write(ctx, func(ctx context.Context, x *tx) (err error) {
				n, err = step(ctx, x)
				return err
			})
			if err != nil {
				return fmt.Errorf("sweep: %w", err)
			}
			if n < sweepBatch {
				break
			}
		}
	}
	return nil
}

// sweepVersions drops rows past their time, but for the newest of each noun.
func (d *DB) sweepVersions(ctx context.Context, x *tx) (int64, error) {
	rows, err := x.query(ctx, `DELETE FROM versions WHERE id IN (
			SELECT v.id FROM versions v WHERE v.at < $1 AND v.id <= COALESCE((
				SELECT k.id FROM versions k WHERE k.kind = v.kind AND k.object = v.object AND k.tenant = v.tenant
				ORDER BY k.id DESC LIMIT 1 OFFSET $2), 0)
			ORDER BY v.id LIMIT $3) RETURNING doc, pins`,
		micros(d.now().Add(-d.opt.Keep)), d.opt.KeepMin, sweepBatch)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	move := map[string]int64{}
	for rows.Next() {
		var doc, pins string
		if err := rows.Scan(&doc, &pins); err != nil {
			rows.Close()
			return 0, err
		}
		n++
		move[doc]--
		for _, p := range strings.Fields(pins) {
			move[p]--
		}
	}
	if err := closed(rows); err != nil {
		return 0, err
	}
	return n, moveRefs(ctx, x, move)
}

// sweepAudits drops audit rows past their time. The audit is append-only for
// everything else: a trigger refuses to delete rows but those before the cutoff
// that stands in audit_sweep, which no other transaction can see.
func (d *DB) sweepAudits(ctx context.Context, x *tx) (int64, error) {
	cutoff := micros(d.now().Add(-d.opt.KeepAudits))
	rows, err := x.query(ctx, "SELECT id FROM audits WHERE at < $1 LIMIT 1", cutoff)
	if err != nil {
		return 0, err
	}
	due := rows.Next()
	if err := closed(rows); err != nil || !due {
		return 0, err
	}
	if _, err := x.exec(ctx, "INSERT INTO audit_sweep (cutoff) VALUES ($1)", cutoff); err != nil {
		return 0, err
	}
	n, err := x.affect(ctx, "DELETE FROM audits WHERE id IN (SELECT id FROM audits WHERE at < $1 ORDER BY at LIMIT $2)", cutoff, sweepBatch)
	if err != nil {
		return 0, err
	}
	_, err = x.exec(ctx, "DELETE FROM audit_sweep")
	return n, err
}

func (d *DB) sweepBlobs(ctx context.Context, x *tx) (int64, error) {
	return x.affect(ctx, `DELETE FROM blobs WHERE refs <= 0 AND hash IN (
		SELECT hash FROM blobs WHERE refs = 0 AND touched < $1 ORDER BY touched LIMIT $2)`,
		micros(d.now().Add(-blobGrace)), sweepBatch)
}

func (d *DB) sweepLog(ctx context.Context, x *tx) (int64, error) {
	old := micros(d.now().Add(-logKept))
	n, err := x.affect(ctx, `DELETE FROM changes WHERE id IN (
		SELECT id FROM changes WHERE seq > 0 AND at < $1 ORDER BY id LIMIT $2)`, old, sweepBatch)
	if err != nil {
		return 0, err
	}
	rows, err := x.query(ctx, "DELETE FROM items WHERE deleted = 1 AND at < $1 RETURNING seq", old)
	if err != nil {
		return 0, err
	}
	floor := int64(0)
	for rows.Next() {
		var seq int64
		if err := rows.Scan(&seq); err != nil {
			rows.Close()
			return 0, err
		}
		floor = max(floor, seq)
	}
	if err := closed(rows); err != nil {
		return 0, err
	}
	if floor > 0 {
		if _, err := x.exec(ctx, "UPDATE meta SET floor = $1 WHERE id = 1 AND floor < $2", floor, floor); err != nil {
			return 0, err
		}
	}
	if _, err := x.exec(ctx, "DELETE FROM join_tokens WHERE expires < $1", micros(d.now())); err != nil {
		return 0, err
	}
	_, err = x.exec(ctx, "DELETE FROM gateways WHERE seen < $1", d.now().Add(-logKept).UnixMilli())
	return n, err
}

func closed(rows *sql.Rows) error {
	err := rows.Err()
	if e := rows.Close(); err == nil {
		err = e
	}
	return err
}
