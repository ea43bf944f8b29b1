package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// AddMember notes that a node joined, with an audit row. One that is known
// already stays as it is.
func (l *ChangeLog) AddMember(ctx context.Context, m apim.Member) error {
	err := l.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "INSERT INTO members (id, node, roles, joined, withdrawn) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (id) DO NOTHING",
			m.ID, m.Node, lines(m.Roles), micros(m.Joined))
		if err != nil || n == 0 {
			return err
		}
		after, err := json.Marshal(map[string]any{"roles": m.Roles})
		if err != nil {
			return err
		}
		return audit(ctx, x, apim.SuperTenant, "node", m.Node, "join", nil, after)
	})
	if err != nil {
		return fmt.Errorf("add member %s: %w", m.Node, err)
	}
	return nil
}

// Members lists the nodes that joined and were not withdrawn, by name.
func (l *ChangeLog) Members(ctx context.Context) ([]apim.Member, error) {
	var out []apim.Member
	err := l.d.each(ctx, "SELECT id, node, roles, joined FROM members WHERE withdrawn = 0 ORDER BY node, joined", nil, func(rows *sql.Rows) error {
		var m apim.Member
		var roles string
		var joined int64
		if err := rows.Scan(&m.ID, &m.Node, &roles, &joined); err != nil {
			return err
		}
		m.Roles, m.Joined = fromLines(roles), fromMicros(joined)
		out = append(out, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return out, nil
}

// Withdrawn lists the ids of the members that were withdrawn.
func (l *ChangeLog) Withdrawn(ctx context.Context) ([]string, error) {
	var out []string
	err := l.d.each(ctx, "SELECT id FROM members WHERE withdrawn > 0", nil, func(rows *sql.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		out = append(out, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list withdrawn members: %w", err)
	}
	return out, nil
}

// Withdraw ends the membership of a node and forgets it as a gateway, with an
// audit row; fault.Missing when no node of that name has joined.
func (l *ChangeLog) Withdraw(ctx context.Context, node string) error {
	err := l.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "UPDATE members SET withdrawn = $1 WHERE node = $2 AND withdrawn = 0", micros(l.d.now()), node)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.Missing.Withf("no node %s has joined", node)
		}
		if _, err := x.exec(ctx, "DELETE FROM gateways WHERE id = $1", node); err != nil {
			return err
		}
		return audit(ctx, x, apim.SuperTenant, "node", node, "withdraw", nil, nil)
	})
	if err != nil {
		return fmt.Errorf("withdraw node %s: %w", node, err)
	}
	return nil
}
