package app

import (
	"context"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/throttle"
	"github.com/cardea-apim/cardea/internal/throttle/slotfile"
	"github.com/cardea-apim/cardea/internal/traffic"
)

// counting is what limits are made of: the gateway's counters with their file,
// the exchange with other gateways, and the traffic role that adds them up.
type counting struct {
	limiter  *throttle.Limiter // nil without the gateway role
	exchange *traffic.Exchange // nil where the gateway counts alone
	hub      *traffic.Hub      // nil without the traffic role
}

// wireTraffic opens the counters of a gateway and starts the traffic role.
func (a *App) wireTraffic(context.Context) error {
	a.counting = &counting{}
	if a.cfg.Has(config.Traffic) {
		a.counting.hub = traffic.NewHub(traffic.HubOptions{Bus: a.bus, Name: a.name, Log: a.log})
		a.watch("traffic", a.counting.hub.Health)
		a.background(a.counting.hub.Run)
	}
	if !a.cfg.Has(config.Gateway) {
		return nil
	}
	file, err := slotfile.Open(a.home.path("counters"), slotfile.Options{Log: a.log})
	if err != nil {
		return fmt.Errorf("open counters: %w", err)
	}
	a.onClose(file.Close)
	a.background(file.Run)
	a.watch("counters", file.Health)
	for _, d := range file.Damages() {
		a.log.Error("counters damaged, counting anew", "place", d.String())
	}
	// apim.throttling.enable_data_publishing and enable_decision_connection:
	// without them this gateway counts alone.
	alone := a.cfg.CountAlone
	a.counting.limiter = throttle.New(throttle.Options{Backing: file, Track: !alone})
	if !alone {
		a.counting.exchange = traffic.NewExchange(traffic.ExchangeOptions{
			Limiter: a.counting.limiter, Bus: a.bus, Gateway: a.name, Durable: true, Log: a.log,
		})
		a.background(a.counting.exchange.Run)
		a.watch("exchange", a.counting.exchange.Health)
	} else {
		a.background(a.sweepCounters) // otherwise the exchange does it
	}
	return nil
}

// sweepCounters drops the counters of windows that are over.
func (a *App) sweepCounters(ctx context.Context) error {
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			a.counting.limiter.Sweep(now)
		}
	}
}
