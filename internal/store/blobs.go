package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Blobs holds documents by content, compressed. What no noun or version refers
// to goes after a grace of an hour since it was last put.
type Blobs struct{ d *DB }

const blobGrace = time.Hour

// Put stores bytes and returns their address: hex SHA-256. The noun that is to
// hold it can follow in the same transaction, or in another within the grace.
func (b *Blobs) Put(ctx context.Context, data []byte) (apim.BlobRef, error) {
	if len(data) > maxUnpacked {
		return "", fmt.Errorf("put blob: %w", fault.BodyTooLarge.Withf("larger than %d bytes", maxUnpacked))
	}
	doc := document{hash: address(data), bytes: data}
	packed := pack(data) // outside of the turn to write
	err := b.d.write(ctx, func(ctx context.Context, x *tx) error { return putPacked(ctx, x, doc, packed) })
	if err != nil {
		return "", fmt.Errorf("put blob: %w", err)
	}
	return apim.BlobRef(doc.hash), nil
}

func putBlob(ctx context.Context, x *tx, doc document) error {
	n, err := x.affect(ctx, "UPDATE blobs SET touched = $1 WHERE hash = $2", micros(x.d.now()), doc.hash)
	if err != nil || n > 0 {
		return err
	}
	return putPacked(ctx, x, doc, pack(doc.bytes))
}

func putPacked(ctx context.Context, x *tx, doc document, packed []byte) error {
	_, err := x.exec(ctx, `INSERT INTO blobs (hash, refs, touched, size, data) VALUES ($1, 0, $2, $3, $4)
		ON CONFLICT (hash) DO UPDATE SET touched = excluded.touched`,
		doc.hash, micros(x.d.now()), len(doc.bytes), packed)
	return err
}

// Get returns the bytes of an address and proves that they are: a blob that
// changed on the disk is an error that names it, never content.
func (b *Blobs) Get(ctx context.Context, ref apim.BlobRef) ([]byte, error) {
	if raw, err := hex.DecodeString(string(ref)); err != nil || len(raw) != 32 {
		return nil, fmt.Errorf("get blob: %w", fault.Missing.With("document"))
	}
	var packed []byte
	err := b.d.one(ctx, "SELECT data FROM blobs WHERE hash = $1", []any{string(ref)}, &packed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("get blob: %w", fault.Missing.With("document"))
	}
	if err != nil {
		return nil, fmt.Errorf("get blob: %w", err)
	}
	data, err := unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("get blob %.12s: %w", ref, err)
	}
	if got := address(data); got != string(ref) {
		return nil, fmt.Errorf("get blob %.12s: its bytes hash to %.12s: the database is damaged, restore a backup", ref, got)
	}
	return data, nil
}
