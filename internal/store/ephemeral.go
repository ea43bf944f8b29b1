package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Ephemera stores rows with an end: codes, sessions, consents, opaque tokens.
// They are no nouns and have no history.
type Ephemera struct{ d *DB }

const ephemeralColumns = "kind, hash, tenant, subject, client, created, expires, used, doc"

func scanEphemeral(rows *sql.Rows) (*apim.Ephemeral, error) {
	var hash, tenant, doc string
	var created, expires, used int64
	e := &apim.Ephemeral{}
	if err := rows.Scan(&e.Kind, &hash, &tenant, &e.Subject, &e.Client, &created, &expires, &used, &doc); err != nil {
		return nil, err
	}
	e.Hash, e.Tenant, e.Doc = apim.Digest(hash), apim.TenantID(tenant), []byte(doc)
	e.Created, e.Expires, e.Used = fromMicros(created), fromMicros(expires), fromMicros(used)
	return e, nil
}

// Put stores a row in the place of any other of its kind and hash.
func (t *Ephemera) Put(ctx context.Context, e *apim.Ephemeral) error {
	if e.Kind == "" || e.Hash == "" {
		return fmt.Errorf("put ephemeral: %w", fault.BadRequest.With("needs a kind and a hash"))
	}
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, "INSERT INTO ephemera ("+ephemeralColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (kind, hash) DO UPDATE SET tenant = excluded.tenant, subject = excluded.subject, client = excluded.client,
				created = excluded.created, expires = excluded.expires, used = excluded.used, doc = excluded.doc`,
			e.Kind, string(e.Hash), string(e.Tenant), clean(e.Subject), clean(e.Client),
			micros(e.Created), micros(e.Expires), micros(e.Used), string(e.Doc))
		return err
	})
	if err != nil {
		return fmt.Errorf("put %s: %w", e.Kind, err)
	}
	return nil
}

// Get reads a row; fault.Missing if there is none or its time is over.
func (t *Ephemera) Get(ctx context.Context, kind string, hash apim.Digest) (*apim.Ephemeral, error) {
	e, err := t.get(ctx, kind, hash, t.d.now(), "")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kind, err)
	}
	return e, nil
}

func (t *Ephemera) get(ctx context.Context, kind string, hash apim.Digest, now time.Time, lock string) (*apim.Ephemeral, error) {
	var e *apim.Ephemeral
	err := t.d.each(ctx, "SELECT "+ephemeralColumns+" FROM ephemera WHERE kind = $1 AND hash = $2 AND (expires = 0 OR expires > $3)"+lock,
		[]any{kind, string(hash), micros(now)}, func(rows *sql.Rows) (err error) {
			e, err = scanEphemeral(rows)
			return err
		})
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, fault.Missing.With(kind)
	}
	return e, nil
}

// Use consumes a row at the given moment. Of any number of racing callers
// exactly one wins; the others get the row with the winner's Used, and with all
// that the winner's transaction wrote to it. fault.Missing if there is none or
// its time is over.
func (t *Ephemera) Use(ctx context.Context, kind string, hash apim.Digest, now time.Time) (e *apim.Ephemeral, won bool, err error) {
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "UPDATE ephemera SET used = $1 WHERE kind = $2 AND hash = $3 AND used = 0 AND (expires = 0 OR expires > $4)",
			micros(now), kind, string(hash), micros(now))
		if err != nil {
			return err
		}
		won = n == 1
		e, err = t.get(ctx, kind, hash, now, "")
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("use %s: %w", kind, err)
	}
	return e, won, nil
}

// Change applies fn to a row that nobody else changes meanwhile, and stores
// it; kind and hash stay. An error of fn leaves the row as it was. fn may be
// called again after a conflict. fault.Missing if there is no row or its time
// is over.
func (t *Ephemera) Change(ctx context.Context, kind string, hash apim.Digest, fn func(*apim.Ephemeral) error) error {
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		e, err := t.get(ctx, kind, hash, t.d.now(), t.d.dial.lock)
		if err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
		_, err = x.exec(ctx, `UPDATE ephemera SET tenant = $1, subject = $2, client = $3, created = $4, expires = $5, used = $6, doc = $7
			WHERE kind = $8 AND hash = $9`,
			string(e.Tenant), clean(e.Subject), clean(e.Client), micros(e.Created), micros(e.Expires), micros(e.Used), string(e.Doc),
			kind, string(hash))
		return err
	})
	if err != nil {
		return fmt.Errorf("change %s: %w", kind, err)
	}
	return nil
}

// Delete removes a row, if it is there.
func (t *Ephemera) Delete(ctx context.Context, kind string, hash apim.Digest) error {
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, "DELETE FROM ephemera WHERE kind = $1 AND hash = $2", kind, string(hash))
		return err
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", kind, err)
	}
	return nil
}

// DeleteOf removes the rows of a kind that belong to a subject, to a client, or
// to both in a tenant, and returns how many; either may be empty, not both.
func (t *Ephemera) DeleteOf(ctx context.Context, kind string, tenant apim.TenantID, subject, client string) (n int, err error) {
	if subject == "" && client == "" {
		return 0, fmt.Errorf("delete %s: %w", kind, fault.BadRequest.With("needs a subject or a client"))
	}
	b := &builder{}
	b.Str("DELETE FROM ephemera WHERE kind = ").Arg(kind).Str(" AND tenant = ").Arg(string(tenant))
	if subject != "" {
		b.Str(" AND subject = ").Arg(clean(subject))
	}
	if client != "" {
		b.Str(" AND client = ").Arg(clean(client))
	}
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		gone, err := x.affect(ctx, b.String(), b.args...)
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete %s: %w", kind, err)
	}
	return n, nil
}

// List reads the newest live rows of a kind that belong to a subject, at most
// limit.
func (t *Ephemera) List(ctx context.Context, kind string, tenant apim.TenantID, subject string, limit int) ([]*apim.Ephemeral, error) {
	var out []*apim.Ephemeral
	err := t.d.each(ctx, "SELECT "+ephemeralColumns+` FROM ephemera WHERE kind = $1 AND tenant = $2 AND subject = $3 AND (expires = 0 OR expires > $4)
		ORDER BY created DESC, hash LIMIT $5`,
		[]any{kind, string(tenant), clean(subject), micros(t.d.now()), limit}, func(rows *sql.Rows) error {
			e, err := scanEphemeral(rows)
			if err == nil {
				out = append(out, e)
			}
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", kind, err)
	}
	return out, nil
}

// Prune deletes at most limit rows whose time was over at now and returns how
// many.
func (t *Ephemera) Prune(ctx context.Context, now time.Time, limit int) (n int, err error) {
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		gone, err := t.d.pruneEphemera(ctx, x, now, limit)
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("prune ephemera: %w", err)
	}
	return n, nil
}

func (d *DB) pruneEphemera(ctx context.Context, x *tx, now time.Time, limit int) (int64, error) {
	return x.affect(ctx, `DELETE FROM ephemera WHERE (kind, hash) IN (
		SELECT kind, hash FROM ephemera WHERE expires > 0 AND expires <= $1 ORDER BY expires LIMIT $2)`, micros(now), limit)
}

func (d *DB) sweepEphemera(ctx context.Context, x *tx) (int64, error) {
	return d.pruneEphemera(ctx, x, d.now(), sweepBatch)
}
