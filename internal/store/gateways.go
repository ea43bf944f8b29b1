package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// SaveGateway keeps the newest acknowledgement of a gateway, whose LastSeen is
// its lease. It announces nothing, but signals who waits.
func (l *ChangeLog) SaveGateway(ctx context.Context, g apim.GatewayNode) error {
	node, err := json.Marshal(g)
	if err != nil {
		return fmt.Errorf("save gateway %s: %w", g.ID, err)
	}
	alone := l.d.txFrom(ctx) == nil
	err = l.d.write(ctx, func(ctx context.Context, x *tx) error {
		// Losing a heartbeat to a crash of the server costs a second.
		if relax := l.d.dial.relax; relax != "" && alone {
			if _, err := x.exec(ctx, relax); err != nil {
				return err
			}
		}
		_, err := x.exec(ctx, `INSERT INTO gateways (id, seen, node) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO UPDATE SET seen = excluded.seen, node = excluded.node WHERE gateways.seen <= excluded.seen`,
			g.ID, g.LastSeen, string(node))
		x.signals = true
		return err
	})
	if err != nil {
		return fmt.Errorf("save gateway %s: %w", g.ID, err)
	}
	return nil
}

// Gateways lists all gateways known, by id.
func (l *ChangeLog) Gateways(ctx context.Context) ([]apim.GatewayNode, error) {
	var out []apim.GatewayNode
	err := l.d.each(ctx, "SELECT node FROM gateways ORDER BY id", nil, func(rows *sql.Rows) error {
		var node []byte
		if err := rows.Scan(&node); err != nil {
			return err
		}
		var g apim.GatewayNode
		if err := json.Unmarshal(node, &g); err != nil {
			return err
		}
		out = append(out, g)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list gateways: %w", err)
	}
	return out, nil
}

// AddJoinToken stores a one-time token by its hash.
func (l *ChangeLog) AddJoinToken(ctx context.Context, hash apim.Digest, roles []string, expires time.Time) error {
	err := l.d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, "INSERT INTO join_tokens (hash, roles, expires) VALUES ($1, $2, $3)", string(hash), lines(roles), micros(expires))
		return err
	})
	if err != nil {
		return fmt.Errorf("add join token: %w", err)
	}
	return nil
}

// sharedJoined is shared once a node has joined.
const sharedJoined = "nodes joined"

// Joined reports whether a node has ever joined.
func (l *ChangeLog) Joined(ctx context.Context) (bool, error) {
	var yes string
	err := l.d.one(ctx, "SELECT value FROM shared WHERE name = $1", []any{sharedJoined}, &yes)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read joined nodes: %w", err)
	}
	return true, nil
}

// JoinTokens counts the tokens that wait to be used.
func (l *ChangeLog) JoinTokens(ctx context.Context) (int, error) {
	var n int
	if err := l.d.one(ctx, "SELECT count(*) FROM join_tokens WHERE expires > $1", []any{micros(l.d.now())}, &n); err != nil {
		return 0, fmt.Errorf("count join tokens: %w", err)
	}
	return n, nil
}

// UseJoinToken consumes a token and returns its roles; fault.Missing if it is
// unknown, used or expired, which are not told apart.
func (l *ChangeLog) UseJoinToken(ctx context.Context, hash apim.Digest, now time.Time) (roles []string, err error) {
	err = l.d.write(ctx, func(ctx context.Context, x *tx) error {
		var list string
		err := l.d.one(ctx, "DELETE FROM join_tokens WHERE hash = $1 AND expires > $2 RETURNING roles", []any{string(hash), micros(now)}, &list)
		if errors.Is(err, sql.ErrNoRows) {
			return fault.Missing.With("join token")
		}
		if err != nil {
			return err
		}
		roles = fromLines(list)
		// Unlike the list of gateways this outlives a backup, and a long absence.
		_, err = x.exec(ctx, "INSERT INTO shared (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", sharedJoined, "yes")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("use join token: %w", err)
	}
	return roles, nil
}
