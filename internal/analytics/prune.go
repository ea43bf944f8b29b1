package analytics

import (
	"context"
	"fmt"
)

const (
	pruneChunk = 5000 // rows deleted by one statement, so that the writer is never away for long
	pruneTurns = 40   // statements of one kind in one pass
)

// Prune applies the bounds of age, number and size now; the writer does it every
// minute by itself.
func (d *DB) Prune(ctx context.Context) error {
	return d.do(ctx, &job{prune: true, done: make(chan error, 1)})
}

func (d *DB) prune() error {
	now := d.o.Now()
	var newest, decisions int64
	if err := d.write.QueryRow(`SELECT coalesce(max(id), 0), (SELECT count(*) FROM decision) FROM call`).Scan(&newest, &decisions); err != nil {
		return fmt.Errorf("prune analytics: %w", err)
	}
	var days int64
	for _, p := range []struct {
		q       string
		arg     int64
		deleted *int64
	}{
		{`DELETE FROM call WHERE id IN (SELECT id FROM call WHERE time < ? LIMIT 5000)`, now.Add(-d.o.KeepCalls).UnixMicro(), nil},
		{`DELETE FROM call WHERE id IN (SELECT id FROM call WHERE id <= ? LIMIT 5000)`, newest - int64(d.o.MaxCalls), nil},
		{`DELETE FROM decision WHERE ref IN (SELECT ref FROM decision WHERE time < ? LIMIT 5000)`, now.Add(-d.o.KeepDecisions).UnixMicro(), nil},
		{`DELETE FROM minute WHERE bucket < ?`, floor(now.Add(-d.o.KeepMinutes).Unix(), 3600), nil},
		{`DELETE FROM hour WHERE bucket < ?`, floor(now.Add(-d.o.KeepHours).Unix(), 86400), nil},
		{`DELETE FROM day WHERE bucket < ?`, floor(now.Add(-d.o.KeepDays).Unix(), 86400), &days},
		{`DELETE FROM trend WHERE step = 60 AND bucket < ?`, floor(now.Add(-d.o.KeepMinutes).Unix(), 3600), nil},
		{`DELETE FROM trend WHERE step = 3600 AND bucket < ?`, floor(now.Add(-d.o.KeepHours).Unix(), 86400), nil},
		{`DELETE FROM trend WHERE step = 86400 AND bucket < ?`, floor(now.Add(-d.o.KeepDays).Unix(), 86400), nil},
		{`DELETE FROM ahead WHERE (gateway, boot) IN (SELECT gateway, boot FROM source WHERE updated < ?)`, now.Add(-sourcesKept).Unix(), nil},
		{`DELETE FROM source WHERE updated < ?`, now.Add(-sourcesKept).Unix(), nil},
	} {
		n, err := d.delete(p.q, p.arg)
		if err != nil {
			return err
		}
		if p.deleted != nil {
			*p.deleted = n
		}
	}
	if over := decisions - int64(d.o.MaxDecisions); over > 0 {
		if _, err := d.write.Exec(`DELETE FROM decision WHERE ref IN (SELECT ref FROM decision ORDER BY time LIMIT ?)`, over); err != nil {
			return fmt.Errorf("prune decisions: %w", err)
		}
	}
	if days > 0 {
		clear(d.dims)
		if _, err := d.write.Exec(`DELETE FROM dim WHERE id NOT IN (SELECT dim FROM day)
			AND id NOT IN (SELECT dim FROM hour) AND id NOT IN (SELECT dim FROM minute)`); err != nil {
			return fmt.Errorf("prune keys: %w", err)
		}
	}
	return d.shrink()
}

// delete repeats a statement until it finds less than a chunk.
func (d *DB) delete(q string, args ...any) (total int64, err error) {
	for range pruneTurns {
		n, err := d.affected(q, args...)
		if err != nil {
			return total, fmt.Errorf("prune analytics: %w", err)
		}
		if total += n; n < pruneChunk {
			break
		}
	}
	return total, nil
}

// affected runs one statement and says how many rows it changed.
func (d *DB) affected(q string, args ...any) (int64, error) {
	res, err := d.write.Exec(q, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// shrink keeps the file within its size. What says least about the past goes
// first: raw calls, details of refusals, the oldest minutes, the oldest hours.
// Days are never given up for size.
func (d *DB) shrink() error {
	for {
		used, err := d.used()
		if err != nil {
			return err
		}
		d.bytes.Store(used)
		if used <= d.o.MaxBytes {
			break
		}
		var n int64
		for _, q := range [][]string{
			{`DELETE FROM call WHERE id IN (SELECT id FROM call ORDER BY id LIMIT 5000)`},
			{`DELETE FROM decision WHERE ref IN (SELECT ref FROM decision ORDER BY time LIMIT 5000)`},
			{
				`DELETE FROM minute WHERE bucket < (SELECT min(bucket) + 3600 FROM minute)`,
				`DELETE FROM trend WHERE step = 60 AND bucket < (SELECT coalesce(min(bucket), 1 << 60) FROM minute)`,
			},
			{
				`DELETE FROM hour WHERE bucket < (SELECT min(bucket) + 86400 FROM hour)`,
				`DELETE FROM trend WHERE step = 3600 AND bucket < (SELECT coalesce(min(bucket), 1 << 60) FROM hour)`,
			},
		} {
			for _, q := range q {
				deleted, err := d.affected(q)
				if err != nil {
					return fmt.Errorf("shrink analytics: %w", err)
				}
				n += deleted
			}
			if n > 0 {
				break
			}
		}
		if n == 0 {
			d.o.Log.Warn("analytics is larger than its bound and only days are left", "bytes", used, "bound", d.o.MaxBytes)
			break
		}
	}
	rows, err := d.write.Query(`PRAGMA incremental_vacuum(5000)`)
	if err != nil {
		return fmt.Errorf("shrink analytics: %w", err)
	}
	for rows.Next() { // it works page by page as it is read
	}
	if err := rows.Close(); err != nil {
		return fmt.Errorf("shrink analytics: %w", err)
	}
	return rows.Err()
}

// used is the size of the file without its free pages, in bytes.
func (d *DB) used() (int64, error) {
	var pages, free, size int64
	err := d.write.QueryRow(`SELECT p.page_count, f.freelist_count, s.page_size
		FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s`).Scan(&pages, &free, &size)
	if err != nil {
		return 0, fmt.Errorf("measure analytics: %w", err)
	}
	return (pages - free) * size, nil
}
