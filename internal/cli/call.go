package cli

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/client"
)

// decisionHeader carries the id of a refusal.
const decisionHeader = "Cardea-Decision"

type callFlags struct {
	serverFlags
	method, data, version, app, plan, gateway string
	headers                                   []string
	include, curl                             bool
	count                                     int
}

func callCommand() *cobra.Command {
	var f callFlags
	cmd := &cobra.Command{
		Use:   "call API PATH",
		Short: "subscribe to an API, get a token and call it",
		Long: `Makes sure that an application of yours is subscribed to the API and has keys,
gets a token, and calls PATH below the API's context. The body of the answer
goes to standard output.`,
		Example: `  cardea call PizzaShackAPI /menu
  cardea call PizzaShackAPI /order -X POST -d '{"pizzaType":"Margherita"}'
  cardea call PizzaShackAPI /menu --curl`,
		Args: exactly("API", "PATH"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	f.bind(cmd)
	fl := cmd.Flags()
	fl.StringVarP(&f.method, "request", "X", "", "method (default GET, or POST with -d)")
	fl.StringVarP(&f.data, "data", "d", "", "body; @FILE reads a file")
	fl.StringArrayVarP(&f.headers, "header", "H", nil, "request header, name: value")
	fl.StringVar(&f.version, "version", "", "version of the API (default the newest)")
	fl.StringVar(&f.app, "app", "cardea-cli", "application to call with; made when it is missing")
	fl.StringVar(&f.plan, "plan", "", "business plan to subscribe with (default the first offered)")
	fl.StringVar(&f.gateway, "gateway", "", "gateway URL instead of the one the portal shows")
	fl.BoolVarP(&f.include, "include", "i", false, "print status and headers too")
	fl.BoolVar(&f.curl, "curl", false, "print a curl line instead of calling")
	fl.IntVar(&f.count, "count", 1, "how many times to call")
	return cmd
}

func (f *callFlags) run(cmd *cobra.Command, name, path string) error {
	ctx := cmd.Context()
	c, err := f.connect(ctx, cmd)
	if err != nil {
		return err
	}
	api, err := c.API(ctx, name, f.version)
	if err != nil {
		return err
	}
	app, err := c.Application(ctx, f.app, "Unlimited")
	if err != nil {
		return err
	}
	if err := c.Subscribe(ctx, app, api, f.plan); err != nil {
		return err
	}
	keys, err := c.Keys(ctx, app)
	if err != nil {
		return err
	}
	token, err := c.AccessToken(ctx, keys)
	if err != nil {
		return err
	}
	root := api.URL()
	if f.gateway != "" {
		root = strings.TrimSuffix(f.gateway, "/") + api.Context
		if !strings.HasSuffix(root, "/"+api.Version) {
			root += "/" + api.Version
		}
	}
	if root == "" {
		return fmt.Errorf("%s is deployed on no gateway", api.Name)
	}
	target := root + "/" + strings.TrimPrefix(path, "/")
	if f.curl {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "curl -k -H 'Authorization: Bearer %s' '%s'\n", token, target)
		return err
	}
	status := map[int]int{}
	var last error
	for range f.count {
		code, err := f.call(ctx, cmd, c.HTTP, target, token)
		if code == 0 {
			return err
		}
		status[code]++
		last = err
	}
	if f.count > 1 {
		codes := make([]int, 0, len(status))
		for s := range status {
			codes = append(codes, s)
		}
		slices.Sort(codes)
		for _, s := range codes {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%d answers with status %d\n", status[s], s)
		}
	}
	return last
}

// call sends one request; a status of 0 means that nothing came back.
func (f *callFlags) call(ctx context.Context, cmd *cobra.Command, h *http.Client, target, token string) (int, error) {
	method, body := f.method, f.data
	if file, ok := strings.CutPrefix(body, "@"); ok {
		b, err := os.ReadFile(file)
		if err != nil {
			return 0, fmt.Errorf("read body: %w", err)
		}
		body = string(b)
	}
	if method == "" {
		method = http.MethodGet
		if body != "" {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return 0, usage("cannot call %q: %v", target, err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	client.Bearer(token)(req)
	for _, line := range f.headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return 0, usage("-H wants name: value, not %q", line)
		}
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	started := time.Now()
	res, err := h.Do(req)
	if err != nil {
		return 0, fmt.Errorf("call gateway: %w", err)
	}
	defer res.Body.Close()
	if f.include {
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", res.Proto, res.Status)
		_ = res.Header.Write(cmd.OutOrStdout())
		_, _ = fmt.Fprintln(cmd.OutOrStdout())
	}
	if _, err := io.Copy(cmd.OutOrStdout(), res.Body); err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	_, _ = fmt.Fprintln(cmd.OutOrStdout())
	if res.StatusCode < 400 {
		return res.StatusCode, nil
	}
	took := time.Since(started).Round(time.Millisecond)
	if id := res.Header.Get(decisionHeader); id != "" {
		return res.StatusCode, fmt.Errorf("%s after %s, from the gateway; why: cardea explain %s", res.Status, took, id)
	}
	return res.StatusCode, fmt.Errorf("%s after %s, from the backend of the API", res.Status, took)
}
