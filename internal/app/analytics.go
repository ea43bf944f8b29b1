package app

import (
	"context"
	"fmt"

	"github.com/cardea-apim/cardea/internal/analytics"
	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
)

// analyticsOf is the analytics role: the store of what was called.
type analyticsOf struct {
	db *analytics.DB
}

// wireAnalytics opens the store and stores what gateways send.
func (a *App) wireAnalytics(context.Context) error {
	if !a.cfg.Has(config.Analytics) {
		return nil
	}
	c := a.cfg.Analytic
	db, err := analytics.Open(c.Path, analytics.Options{
		Log: a.log, DecisionKey: a.box.Key(decisionPurpose), KeepCalls: c.KeepCalls, KeepMinutes: c.KeepMinutes,
		KeepHours: c.KeepHours, KeepDays: c.KeepDays, MaxBytes: c.MaxBytes,
	})
	if err != nil {
		return err
	}
	a.onClose(db.Close)
	a.watch("analytics", db.Health)
	a.analytics = &analyticsOf{db: db}
	a.metrics.MustRegister(db.Collector())
	a.background(func(ctx context.Context) error { return db.Serve(ctx, a.bus) })
	a.background(a.answerQuestions)
	return nil
}

// mountAnalytics answers questions about what was called, and why.
func (a *App) mountAnalytics() {
	if a.analytics == nil {
		a.mux.HandleFunc("GET "+ownBase+"/analytics/", a.ask)
		a.mux.HandleFunc("GET "+ownBase+"/decisions/", a.ask)
		return
	}
	h := analytics.Handler(analytics.HandlerOptions{
		DB: a.analytics.db, Authenticate: a.authenticate, Applications: a.applicationsOf, Names: names{a.db}, Log: a.log,
	})
	a.mux.Handle(ownBase+"/analytics/", h)
	a.mux.Handle(ownBase+"/decisions/", h)
}

// applicationsOf lists the applications an actor owns, whose calls they may see.
func (a *App) applicationsOf(ctx context.Context, actor *apim.Actor) ([]string, error) {
	page, err := a.db.Applications.List(ctx, actor.Scope(), apim.Where("owner", actor.User))
	if err != nil {
		return nil, fmt.Errorf("list applications: %w", err)
	}
	ids := make([]string, 0, len(page.Items))
	for _, app := range page.Items {
		ids = append(ids, string(app.ID))
	}
	return ids, nil
}
