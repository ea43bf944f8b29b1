package app

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/token"
)

// subjectToken is where gateways ask the identity role what an opaque token
// stands for. Question and answer are sealed with the master key.
const subjectToken = "identity.token"

// tokenAskers is how many questions are answered at a time, per processor.
const tokenAskers = 4

type tokenQuestion struct {
	Token string    `json:"token"`
	Asked time.Time `json:"asked"`
}

type tokenAnswer struct {
	Claims *token.Claims `json:"claims,omitempty"`
	No     string        `json:"no,omitempty"` // unknown, busy, malformed
}

// storedTokens answers from the key manager of this process.
type storedTokens struct{ k *keymanager.KeyManager }

// Access tells what an opaque access token stands for.
func (s storedTokens) Access(ctx context.Context, raw string) (*token.Claims, error) {
	c, err := s.k.Access(ctx, raw)
	if err == nil && c == nil {
		err = auth.ErrToken
	}
	return c, err
}

// remoteTokens asks the identity role over the bus.
type remoteTokens struct {
	bus *bus.Bus
	box *seal.Box
}

// Access tells what an opaque access token stands for.
func (r remoteTokens) Access(ctx context.Context, raw string) (*token.Claims, error) {
	data, err := json.Marshal(tokenQuestion{raw, time.Now()})
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	reply, err := r.bus.Request(ctx, subjectToken, []byte(r.box.Seal(data)))
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	plain, err := r.box.Open(string(reply))
	if err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	var a tokenAnswer
	if err := json.Unmarshal(plain, &a); err != nil {
		return nil, fmt.Errorf("ask the identity role: %w", err)
	}
	switch {
	case a.Claims != nil:
		return a.Claims, nil
	case a.No == "unknown":
		return nil, auth.ErrToken
	}
	return nil, fmt.Errorf("ask the identity role: it answers %q", a.No)
}

// tokensOf is whom the gateway of this process asks.
func (a *App) tokensOf() auth.Tokens {
	if a.people != nil {
		return storedTokens{a.people.keys}
	}
	return remoteTokens{a.bus, a.box}
}

// answerTokens lets gateways elsewhere ask the key manager of this process.
func (a *App) answerTokens(ctx context.Context) error {
	for range tokenAskers * runtime.GOMAXPROCS(0) {
		cancel, err := a.bus.Reply(subjectToken, "identity", func(data []byte) []byte {
			answer, err := json.Marshal(a.tokenAnswer(ctx, data))
			if err != nil {
				return nil
			}
			return []byte(a.box.Seal(answer))
		})
		if err != nil {
			return fmt.Errorf("answer questions about tokens: %w", err)
		}
		defer cancel()
	}
	<-ctx.Done()
	return nil
}

func (a *App) tokenAnswer(ctx context.Context, data []byte) tokenAnswer {
	var q tokenQuestion
	plain, err := a.box.Open(string(data))
	if err == nil {
		err = json.Unmarshal(plain, &q)
	}
	if err != nil || time.Since(q.Asked).Abs() > passwordLife {
		a.log.WarnContext(ctx, "question about a token refused", "asked", q.Asked, "err", err)
		return tokenAnswer{No: "malformed"}
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	c, err := a.people.keys.Access(ctx, q.Token)
	switch {
	case err != nil:
		a.log.ErrorContext(ctx, "token not looked up", "err", err)
		return tokenAnswer{No: "busy"}
	case c == nil:
		return tokenAnswer{No: "unknown"}
	}
	return tokenAnswer{Claims: c}
}
