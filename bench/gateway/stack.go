package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

const (
	plenty    = 1_000_000_000 // per minute: counted, never reached
	tokens    = 10000
	manyAPIs  = 10000
	calledOf  = 100 // of many APIs, those that are called in turn
	smallBody = 1024
	largeBody = 100 << 10
)

// stack is the product: a control process with every role but the gateway's, and
// a gateway process that follows it, so that the gateway's processor time is its own.
type stack struct {
	tmp, cert, key  string
	control, gw     *e2e.Process
	c               *e2e.Client
	started         time.Duration // from the gateway's last launch to its first 200
	startedMany     time.Duration // the same with 10,000 APIs
	small, large    string        // backends
	token, noScope  string        // of the subscribed application
	stranger        string        // token of an application without a subscription
	tiny            string        // token of an application with five requests a minute
	apiKey          string
	app             *e2e.App
	many            []string // tokens
	emptyMB, fullMB float64  // memory before and with 10,000 APIs, the latter at rest and after load
}

func (s *stack) start(ctx context.Context) error {
	var err error
	if s.control, err = e2e.Start(ctx, e2e.Node{Home: filepath.Join(s.tmp, "control"), Args: []string{"--roles", controlRoles}}); err != nil {
		return err
	}
	if s.c, err = e2e.Login(ctx, s.control.Management(), "admin", "admin"); err != nil {
		return err
	}
	var in struct{ Token, Control string }
	if err := s.c.Must(ctx, http.StatusCreated, http.MethodPost, "/api/cardea/v1/nodes/tokens", map[string]any{"roles": []string{"gateway"}}, &in); err != nil {
		return err
	}
	err = onCore(proxyCore, func() error {
		s.gw, err = e2e.Launch(e2e.Node{
			Home: filepath.Join(s.tmp, "gateway"), Args: []string{"--roles", "gateway", "--name", "bench", "--join", in.Token, "--control", in.Control},
			Env: s.gatewayEnv(),
		})
		return err
	})
	if err != nil {
		return err
	}
	return s.gw.Ready(ctx)
}

func (s *stack) stop() {
	for _, p := range []*e2e.Process{s.gw, s.control} {
		if p != nil {
			p.Kill()
		}
	}
}

// restartGateway starts the gateway again from its own disk and waits until it
// proxies. Nothing it knew about tokens survives.
func (s *stack) restartGateway(ctx context.Context) error {
	if err := s.gw.Stop(); err != nil {
		return fmt.Errorf("stop gateway: %w", err)
	}
	n := s.gw.Node
	n.Args = []string{"--roles", "gateway"}
	began := time.Now()
	err := onCore(proxyCore, func() (err error) {
		s.gw, err = e2e.Launch(n)
		return err
	})
	if err != nil {
		return err
	}
	for time.Since(began) < time.Minute {
		a, err := e2e.Call(ctx, http.MethodGet, s.gw.Gateway()+plainPath, "", nil)
		if err == nil && a.Status == http.StatusOK {
			s.started = time.Since(began)
			return s.gw.Ready(ctx)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("the gateway does not proxy after its restart:\n" + s.gw.Output())
}

// analytics starts both processes again with or without the analytics role.
func (s *stack) analytics(ctx context.Context, on bool) error {
	if err := s.control.Stop(); err != nil {
		return fmt.Errorf("stop control: %w", err)
	}
	n := s.control.Node
	n.Args, n.Env, s.gw.Env = []string{"--roles", controlRoles}, nil, s.gatewayEnv()
	if !on {
		const off = "CARDEA_ANALYTICS_ENABLE=false"
		n.Env, s.gw.Env = append(n.Env, off), append(s.gw.Env, off)
	}
	err := onCore(loadCore, func() (err error) {
		s.control, err = e2e.Launch(n)
		return err
	})
	if err != nil {
		return err
	}
	if err := s.control.Ready(ctx); err != nil {
		return err
	}
	return s.restartGateway(ctx)
}

const controlRoles = "control,identity,traffic,analytics"

func (s *stack) gatewayEnv() []string {
	return []string{"GOMAXPROCS=1", "CARDEA_CERTIFICATE_FILE=" + s.cert, "CARDEA_CERTIFICATE_KEY_FILE=" + s.key}
}

// restartWithMany reads the memory after load, and times a start with 10,000 APIs.
func (s *stack) restartWithMany(ctx context.Context) error {
	now, err := s.memoryMB()
	if err != nil {
		return err
	}
	s.fullMB = max(s.fullMB, now)
	if err := s.restartGateway(ctx); err != nil {
		return err
	}
	s.startedMany = s.started
	return nil
}

// memoryMB is the resident memory of the gateway process.
func (s *stack) memoryMB() (float64, error) {
	b, err := resident(s.gw.Pid())
	return float64(b) / (1 << 20), err
}
