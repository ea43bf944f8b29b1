package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/cardea-apim/cardea/internal/analytics"
	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// Questions about what was called are asked of a control node. Where the
// analytics role runs in another process, they travel over the bus together
// with who asks: only the control node can tell that.
const (
	subjectAsk = "analytics.ask"
	askTimeout = 10 * time.Second
)

type question struct {
	URL          string      `json:"url"`
	Actor        *apim.Actor `json:"actor"`
	Applications []string    `json:"applications"`
}

type reply struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

type questionKey struct{}

var errNoQuestion = errors.New("no question in the context")

// answerQuestions lets control nodes ask the store of this process.
func (a *App) answerQuestions(ctx context.Context) error {
	from := func(ctx context.Context) (*question, error) {
		if q, ok := ctx.Value(questionKey{}).(*question); ok {
			return q, nil
		}
		return nil, errNoQuestion
	}
	h := analytics.Handler(analytics.HandlerOptions{
		DB: a.analytics.db, Log: a.log,
		Authenticate: func(ctx context.Context, _ *http.Request) (*apim.Actor, error) {
			q, err := from(ctx)
			if err != nil {
				return nil, err
			}
			return q.Actor, nil
		},
		Applications: func(ctx context.Context, _ *apim.Actor) ([]string, error) {
			q, err := from(ctx)
			if err != nil {
				return nil, err
			}
			return q.Applications, nil
		},
	})
	cancel, err := a.bus.Reply(subjectAsk, "analytics", func(data []byte) []byte {
		var q question
		if err := json.Unmarshal(data, &q); err != nil || q.Actor == nil {
			return nil
		}
		ctx, stop := context.WithTimeout(context.WithValue(ctx, questionKey{}, &q), askTimeout)
		defer stop()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.URL, nil)
		if err != nil {
			return nil
		}
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, req)
		out, err := json.Marshal(reply{Status: w.status, Body: w.body.Bytes()})
		if err != nil {
			return nil
		}
		return out
	})
	if err != nil {
		return fmt.Errorf("answer questions: %w", err)
	}
	defer cancel()
	<-ctx.Done()
	return nil
}

// ask passes a question on to the analytics role, wherever it is.
func (a *App) ask(w http.ResponseWriter, r *http.Request) {
	if err := a.forward(w, r); err != nil {
		rest.Fault(w, r, err)
	}
}

func (a *App) forward(w http.ResponseWriter, r *http.Request) error {
	actor, err := a.authenticate(r.Context(), r)
	if err != nil {
		return fault.NotAuthorized.Because(err)
	}
	q := question{URL: (&url.URL{Path: r.URL.Path, RawQuery: r.URL.RawQuery}).String(), Actor: actor}
	if q.Applications, err = a.applicationsOf(r.Context(), actor); err != nil {
		return err
	}
	data, err := json.Marshal(q)
	if err != nil {
		return fmt.Errorf("ask analytics: %w", err)
	}
	ctx, stop := context.WithTimeout(r.Context(), askTimeout)
	defer stop()
	answer, err := a.bus.Request(ctx, subjectAsk, data)
	if errors.Is(err, bus.ErrNobody) {
		return fault.Busy.With("no node with the analytics role is connected")
	}
	if err != nil {
		return fault.Busy.With("the analytics role does not answer").Because(err)
	}
	var out reply
	if err := json.Unmarshal(answer, &out); err != nil || out.Status == 0 {
		return fault.Busy.With("the analytics role does not answer")
	}
	if out.Status == http.StatusOK { // ids: the other process has no database
		if body, err := analytics.AddNames(ctx, names{a.db}, actor.Tenant, r.URL.Path, out.Body); err != nil {
			a.log.WarnContext(ctx, "names not found", "err", err)
		} else {
			out.Body = body
		}
	}
	return rest.Raw(w, out.Status, "application/json", out.Body)
}
