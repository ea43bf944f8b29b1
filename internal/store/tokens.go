package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Tokens stores refresh tokens and revocations. They are found by hash or by
// identifier, of any tenant; their rows are no nouns and have no history.
type Tokens struct{ d *DB }

const refreshColumns = "hash, family, tenant, client, user_id, user_name, scopes, issued, expires, used, access, access_expires"

func scanRefresh(rows *sql.Rows) (*apim.RefreshToken, error) {
	var hash, tenant, client, user, scopes string
	var issued, expires, used, accessExpires int64
	r := &apim.RefreshToken{}
	err := rows.Scan(&hash, &r.Family, &tenant, &client, &user, &r.UserName, &scopes, &issued, &expires, &used, &r.Access, &accessExpires)
	if err != nil {
		return nil, err
	}
	r.Hash, r.Tenant, r.Client, r.User = apim.Digest(hash), apim.TenantID(tenant), apim.ClientID(client), apim.UserID(user)
	r.Scopes, r.IssuedAt, r.Expires, r.UsedAt, r.AccessExpires = fromLines(scopes), fromMicros(issued), fromMicros(expires), fromMicros(used), fromMicros(accessExpires)
	return r, nil
}

// PutRefresh stores a new token; fault.Exists if its hash is known.
func (t *Tokens) PutRefresh(ctx context.Context, r *apim.RefreshToken) error {
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, "INSERT INTO refresh_tokens ("+refreshColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
			string(r.Hash), r.Family, string(r.Tenant), string(r.Client), string(r.User), clean(r.UserName), lines(r.Scopes),
			micros(r.IssuedAt), micros(r.Expires), micros(r.UsedAt), r.Access, micros(r.AccessExpires))
		return err
	})
	if err != nil {
		return fmt.Errorf("put refresh token: %w", err)
	}
	return nil
}

// Refresh reads a token; fault.Missing if its hash is unknown.
func (t *Tokens) Refresh(ctx context.Context, hash apim.Digest) (*apim.RefreshToken, error) {
	var r *apim.RefreshToken
	err := t.d.each(ctx, "SELECT "+refreshColumns+" FROM refresh_tokens WHERE hash = $1", []any{string(hash)}, func(rows *sql.Rows) (err error) {
		r, err = scanRefresh(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read refresh token: %w", err)
	}
	if r == nil {
		return nil, fault.Missing.With("refresh token")
	}
	return r, nil
}

// UseRefresh consumes a token at the given moment. Of any number of racing
// callers exactly one wins; the others get the row with the winner's UsedAt.
// Whether it had expired is the caller's question. fault.Missing if unknown.
func (t *Tokens) UseRefresh(ctx context.Context, hash apim.Digest, now time.Time) (tok *apim.RefreshToken, won bool, err error) {
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "UPDATE refresh_tokens SET used = $1 WHERE hash = $2 AND used = 0", micros(now), string(hash))
		if err != nil {
			return err
		}
		won = n == 1
		tok, err = t.Refresh(ctx, hash)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("use refresh token: %w", err)
	}
	return tok, won, nil
}

// DropFamily deletes all links of a family and returns them.
func (t *Tokens) DropFamily(ctx context.Context, family string) ([]*apim.RefreshToken, error) {
	var out []*apim.RefreshToken
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		out = nil
		rows, err := x.query(ctx, "DELETE FROM refresh_tokens WHERE family = $1 RETURNING "+refreshColumns, family)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanRefresh(rows)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	if err != nil {
		return nil, fmt.Errorf("drop refresh tokens: %w", err)
	}
	return out, nil
}

// DropRefreshOf deletes the tokens of a user, of a client, or of the user at
// the client; either may be empty, not both.
func (t *Tokens) DropRefreshOf(ctx context.Context, s apim.Scope, user apim.UserID, client apim.ClientID) error {
	if !s.Valid() || (user == "" && client == "") {
		return fmt.Errorf("drop refresh tokens: %w", fault.BadRequest.With("needs a scope, and a user or a client"))
	}
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		b := &builder{}
		b.Str("DELETE FROM refresh_tokens WHERE 1 = 1")
		if user != "" {
			b.Str(" AND user_id = ").Arg(string(user))
		}
		if client != "" {
			b.Str(" AND client = ").Arg(string(client))
		}
		if !s.All() {
			b.Str(" AND tenant = ").Arg(string(s.Tenant()))
		}
		_, err := x.exec(ctx, b.String(), b.args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop refresh tokens: %w", err)
	}
	return nil
}

// Revoke stores a revocation, or widens the one of the same ID, and announces
// it as a change of kind "revocation". An empty ID is made of JTI or Entity.
func (t *Tokens) Revoke(ctx context.Context, r *apim.Revocation) error {
	if r.ID == "" {
		switch {
		case r.JTI != "":
			r.ID = "jti/" + r.JTI
		case r.Entity != "":
			r.ID = "sub/" + r.Entity
		default:
			return fmt.Errorf("revoke: %w", fault.BadRequest.With("needs a token or an entity"))
		}
	}
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, `INSERT INTO revocations (id, tenant, jti, entity, not_before, expires) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET
				not_before = CASE WHEN excluded.not_before > revocations.not_before THEN excluded.not_before ELSE revocations.not_before END,
				expires = CASE WHEN excluded.expires > revocations.expires THEN excluded.expires ELSE revocations.expires END`,
			clean(r.ID), string(r.Tenant), clean(r.JTI), clean(r.Entity), micros(r.NotBefore), micros(r.Expires))
		if err != nil {
			return err
		}
		return emit(ctx, x, apim.Change{Tenant: r.Tenant, Kind: "revocation", Object: r.ID, Op: "create"})
	})
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	return nil
}

// Revoked tells whether the token was revoked itself, or was issued before a
// revocation of one of its entities.
func (t *Tokens) Revoked(ctx context.Context, jti string, entities []string, issuedAt time.Time) (bool, error) {
	b := &builder{}
	b.Str("SELECT count(*) FROM revocations WHERE id = ").Arg("jti/" + clean(jti))
	for _, e := range entities {
		if e != "" {
			b.Str(" OR (id = ").Arg("sub/" + clean(e)).Str(" AND not_before > ").Arg(micros(issuedAt)).Str(")")
		}
	}
	var n int
	if err := t.d.one(ctx, b.String(), b.args, &n); err != nil {
		return false, fmt.Errorf("read revocations: %w", err)
	}
	return n > 0, nil
}

const revocationColumns = "id, tenant, jti, entity, not_before, expires"

func scanRevocation(rows *sql.Rows) (*apim.Revocation, error) {
	var tenant string
	var notBefore, expires int64
	r := &apim.Revocation{}
	if err := rows.Scan(&r.ID, &tenant, &r.JTI, &r.Entity, &notBefore, &expires); err != nil {
		return nil, err
	}
	r.Tenant, r.NotBefore, r.Expires = apim.TenantID(tenant), fromMicros(notBefore), fromMicros(expires)
	return r, nil
}

// Revocation reads one by its ID; fault.Missing if there is none.
func (t *Tokens) Revocation(ctx context.Context, id string) (*apim.Revocation, error) {
	var r *apim.Revocation
	err := t.d.each(ctx, "SELECT "+revocationColumns+" FROM revocations WHERE id = $1", []any{id}, func(rows *sql.Rows) (err error) {
		r, err = scanRevocation(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read revocation: %w", err)
	}
	if r == nil {
		return nil, fault.Missing.With("revocation")
	}
	return r, nil
}

// Revocations lists those that have not expired.
func (t *Tokens) Revocations(ctx context.Context, now time.Time) ([]*apim.Revocation, error) {
	var out []*apim.Revocation
	err := t.d.each(ctx, "SELECT "+revocationColumns+" FROM revocations WHERE expires > $1 ORDER BY id", []any{micros(now)}, func(rows *sql.Rows) error {
		r, err := scanRevocation(rows)
		if err == nil {
			out = append(out, r)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list revocations: %w", err)
	}
	return out, nil
}

// Prune deletes expired tokens and revocations and returns how many. The end
// of a revocation is announced, so that gateways forget it too.
func (t *Tokens) Prune(ctx context.Context, now time.Time) (int, error) {
	total := 0
	err := t.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "DELETE FROM refresh_tokens WHERE expires < $1 AND expires > 0", micros(now))
		if err != nil {
			return err
		}
		total = int(n)
		rows, err := x.query(ctx, "DELETE FROM revocations WHERE expires < $1 AND expires > 0 RETURNING id, tenant", micros(now))
		if err != nil {
			return err
		}
		var gone []apim.Change
		for rows.Next() {
			var id, tenant string
			if err := rows.Scan(&id, &tenant); err != nil {
				rows.Close()
				return err
			}
			gone = append(gone, apim.Change{Tenant: apim.TenantID(tenant), Kind: "revocation", Object: id, Op: "delete"})
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		total += len(gone)
		for _, c := range gone {
			if err := emit(ctx, x, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("prune tokens: %w", err)
	}
	return total, nil
}
