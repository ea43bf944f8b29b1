package store

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/cardea-apim/cardea/internal/fault"
)

// A backup is one portable file for both engines: a line that says what it is,
// a line of JSON (backupHeader), then zstd-compressed lines of JSON: for each
// table {"table","columns"} and its rows as arrays, and at the end {"rows",
// "sha256"}, the sum being of all lines before it. Bytes are {"b": base64}.
const backupMagic = "CARDEA-BACKUP 1"

type backupHeader struct {
	Schema int64     `json:"schema"`
	Engine string    `json:"engine"`
	Binary string    `json:"binary"`
	At     time.Time `json:"at"`
}

type backupTable struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns"`
}

type backupEnd struct {
	Rows   int64  `json:"rows"`
	SHA256 string `json:"sha256"`
}

type backupBytes struct {
	B []byte `json:"b"`
}

// savedTables is what a backup holds: everything but leases and the gateways'
// heartbeats, which mean nothing later, and join tokens, which must not work twice.
var savedTables = []string{
	"meta", "blobs", "tenants", "tenant_confs", "users", "roles", "clients", "signing_keys", "apis", "revisions",
	"deployments", "shared_scopes", "applications", "key_mappings", "subscriptions", "api_keys", "policies",
	"environments", "key_managers", "versions", "audits", "changes", "items", "refresh_tokens", "revocations",
	"shared", "members", "ephemera",
}

// serialTables have an id of the engine's making.
var serialTables = []string{"versions", "audits", "changes"}

// Backup writes the whole store as of one moment, while it goes on serving.
func (d *DB) Backup(ctx context.Context, w io.Writer) error {
	if d.txFrom(ctx) != nil {
		return errors.New("back up: not inside a transaction")
	}
	header, err := json.Marshal(backupHeader{Schema: latestSchema, Engine: d.dial.name, Binary: d.opt.Version, At: d.now()})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s\n%s\n", backupMagic, header); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(true))
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	sum := sha256.New()
	sum.Write(header)
	buf := bufio.NewWriterSize(z, 256<<10)
	out := json.NewEncoder(io.MultiWriter(buf, sum))
	out.SetEscapeHTML(false)
	end := backupEnd{}
	err = d.view(ctx, func(vctx context.Context) error {
		for _, table := range savedTables {
			n, err := d.dump(vctx, out, table, ctx.Err)
			if err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
			end.Rows += n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	end.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if err := out.Encode(end); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func (d *DB) dump(ctx context.Context, out *json.Encoder, table string, ended func() error) (n int64, err error) {
	rows, err := d.query(ctx, "SELECT * FROM "+table)
	if err != nil {
		return 0, d.dial.fault(err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	if err := out.Encode(backupTable{Table: table, Columns: cols}); err != nil {
		return 0, err
	}
	vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
	for i := range vals {
		ptrs[i] = &vals[i]
	}
	for rows.Next() {
		if err := ended(); err != nil {
			return n, err
		}
		if err := rows.Scan(ptrs...); err != nil {
			return n, err
		}
		for i, v := range vals {
			if b, ok := v.([]byte); ok {
				vals[i] = backupBytes{b}
			}
		}
		if err := out.Encode(vals); err != nil {
			return n, err
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return n, d.dial.fault(err)
	}
	return n, rows.Close()
}

// backupReader reads what Backup writes.
type backupReader struct {
	header backupHeader
	in     *bufio.Reader
	z      *zstd.Decoder
	sum    interface {
		io.Writer
		Sum([]byte) []byte
	}
	rows int64
}

// ErrNoBackup tells that a file is no backup, or is damaged.
var ErrNoBackup = errors.New("not a usable backup")

const maxBackupLine = 512 << 20

func readBackup(r io.Reader) (*backupReader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	magic, err := in.ReadString('\n')
	if err != nil || strings.TrimSuffix(magic, "\n") != backupMagic {
		return nil, fmt.Errorf("%w: it does not start with %q", ErrNoBackup, backupMagic)
	}
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: cut off in its header", ErrNoBackup)
	}
	b := &backupReader{sum: sha256.New()}
	line = line[:len(line)-1]
	if err := json.Unmarshal(line, &b.header); err != nil {
		return nil, fmt.Errorf("%w: its header: %w", ErrNoBackup, err)
	}
	b.sum.Write(line)
	if b.z, err = zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBackup, err)
	}
	b.in = bufio.NewReaderSize(b.z, 256<<10)
	return b, nil
}

// each calls table for every table and row for every row of it, and returns nil
// once the sum at the end has been found right.
func (b *backupReader) each(table func(backupTable) error, row func([]any) error) error {
	defer b.z.Close()
	for {
		line, err := b.line()
		if err != nil {
			return fmt.Errorf("%w: cut off after %d rows: %w", ErrNoBackup, b.rows, err)
		}
		switch {
		case line[0] == '[':
			vals, err := rowValues(line)
			if err != nil {
				return fmt.Errorf("%w: row %d: %w", ErrNoBackup, b.rows+1, err)
			}
			b.rows++
			b.sum.Write(line)
			if err := row(vals); err != nil {
				return err
			}
		case strings.HasPrefix(string(line[:min(len(line), 10)]), `{"table"`):
			var t backupTable
			if err := json.Unmarshal(line, &t); err != nil {
				return fmt.Errorf("%w: %w", ErrNoBackup, err)
			}
			b.sum.Write(line)
			if err := table(t); err != nil {
				return err
			}
		default:
			var end backupEnd
			if err := json.Unmarshal(line, &end); err != nil {
				return fmt.Errorf("%w: %w", ErrNoBackup, err)
			}
			if end.Rows != b.rows || end.SHA256 != hex.EncodeToString(b.sum.Sum(nil)) {
				return fmt.Errorf("%w: its checksum does not hold", ErrNoBackup)
			}
			return nil
		}
	}
}

func (b *backupReader) line() ([]byte, error) {
	var line []byte
	for {
		part, err := b.in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxBackupLine {
			return nil, errors.New("a row is too long")
		}
	}
}

func rowValues(line []byte) ([]any, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	out := make([]any, len(raw))
	for i, r := range raw {
		switch {
		case len(r) == 0:
			return nil, errors.New("an empty value")
		case string(r) == "null":
		case r[0] == '"':
			var s string
			if err := json.Unmarshal(r, &s); err != nil {
				return nil, err
			}
			out[i] = s
		case r[0] == '{':
			var b backupBytes
			if err := json.Unmarshal(r, &b); err != nil {
				return nil, err
			}
			if b.B == nil {
				b.B = []byte{}
			}
			out[i] = b.B
		default:
			var n int64
			if err := json.Unmarshal(r, &n); err != nil {
				return nil, err
			}
			out[i] = n
		}
	}
	return out, nil
}

// empty reports whether nothing but the store's own first row is in it.
func (d *DB) empty(ctx context.Context) (bool, error) {
	for _, table := range savedTables {
		if table == "meta" {
			continue
		}
		var one int
		err := d.one(ctx, "SELECT 1 FROM "+table+" LIMIT 1", nil, &one)
		if err == nil {
			return false, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return false, err
		}
	}
	return true, nil
}

// errNotEmpty is what Restore says of a store in use.
var errNotEmpty = fault.Exists.With("the store to restore into is not empty; force it to replace what is there")
