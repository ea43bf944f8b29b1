package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/client"
)

const maxDocument = 32 << 20

func publishCommand() *cobra.Command {
	var f serverFlags
	var p client.Publication
	cmd := &cobra.Command{
		Use:   "publish FILE|URL",
		Short: "publish an API from its OpenAPI document",
		Long: `Imports the document, deploys a revision of it to every gateway environment and
publishes the API. When an API of that name and version exists, its definition
is replaced and a new revision deployed.

Name, version, context and backend come from the document unless given.`,
		Example: `  cardea publish petstore.yaml --endpoint https://petstore.example/v1
  cardea publish https://petstore3.swagger.io/api/v3/openapi.json --context /pets`,
		Args: exactly("FILE|URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			started := time.Now()
			if err := readDocument(cmd.Context(), &f, args[0], &p); err != nil {
				return err
			}
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			out, err := c.Publish(cmd.Context(), p)
			if err != nil {
				return err
			}
			verb := "published"
			if out.Updated {
				verb = "updated"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s in %s\n  context  %s/%s\n  id       %s\nTry it:    cardea call %s %s\n",
				verb, out.Name, out.Version, time.Since(started).Round(time.Millisecond), strings.TrimSuffix(out.Context, "/"+out.Version), out.Version, out.ID, out.Name, out.Sample)
			return err
		},
	}
	f.bind(cmd)
	fl := cmd.Flags()
	fl.StringVar(&p.Context, "context", "", "path below which the API is served (default /name)")
	fl.StringVar(&p.Endpoint, "endpoint", "", "URL of the backend (default the document's first server)")
	fl.StringVar(&p.Name, "name", "", "name of the API (default the document's title)")
	fl.StringVar(&p.Version, "version", "", "version of the API (default the document's)")
	fl.StringSliceVar(&p.Plans, "plan", nil, "business plans to offer (default Unlimited)")
	return cmd
}

// readDocument reads a file, standard input (-) or a URL. The authorities that
// are trusted for the server are trusted for the URL too; --insecure is about
// the server alone.
func readDocument(ctx context.Context, f *serverFlags, from string, p *client.Publication) error {
	var r io.Reader
	switch {
	case from == "-":
		r = os.Stdin
	case strings.HasPrefix(from, "http://"), strings.HasPrefix(from, "https://"):
		p.Source = from
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
		if err != nil {
			return usage("%q is not a URL", from)
		}
		h, err := (&serverFlags{caFile: f.caFile, home: f.home}).http(from)
		if err != nil {
			return err
		}
		res, err := h.Do(req)
		if err != nil {
			return fmt.Errorf("fetch document: %w", err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("fetch document: %s answered %s", from, res.Status)
		}
		r = res.Body
	default:
		file, err := os.Open(from)
		if err != nil {
			return fmt.Errorf("read document: %w", err)
		}
		defer file.Close()
		p.File, r = from, file
	}
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	if len(b) > maxDocument {
		return errors.New("read document: it is larger than 32 MB")
	}
	p.Document = b
	return nil
}
