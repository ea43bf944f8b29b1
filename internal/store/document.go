package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/cardea-apim/cardea/internal/apim"
)

// document is a noun as JSON, without the Meta that the columns hold, so that
// the same content has the same address whoever wrote it and whenever.
type document struct {
	hash  string
	bytes []byte
}

func address(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// encode makes the document of v, whose Meta is m.
func encode[T any](v *T, m *apim.Meta) (document, error) {
	kept := *m
	*m = apim.Meta{}
	defer func() { *m = kept }()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return document{}, fmt.Errorf("encode: %w", err)
	}
	doc := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return document{hash: address(doc), bytes: doc}, nil
}

func decode(doc []byte, v any) error {
	if err := json.Unmarshal(doc, v); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

// Packed bytes start with how they are packed.
const (
	plain byte = 0
	zst   byte = 1
)

// maxUnpacked bounds a document, in bytes.
const maxUnpacked = 256 << 20

var encoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var decoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
})

func pack(b []byte) []byte {
	if len(b) >= 256 {
		if out := encoder().EncodeAll(b, append(make([]byte, 0, len(b)/3+64), zst)); len(out) < len(b) {
			return out
		}
	}
	return append([]byte{plain}, b...)
}

// unpack always returns bytes of its own.
func unpack(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errors.New("unpack: nothing there")
	}
	switch b[0] {
	case plain:
		return bytes.Clone(b[1:]), nil
	case zst:
		out, err := decoder().DecodeAll(b[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		return out, nil
	}
	return nil, fmt.Errorf("unpack: unknown packing %d", b[0])
}

var rawMessage = reflect.TypeFor[json.RawMessage]()

// nullFixer makes the function that turns a RawMessage null, which is what an
// absent one becomes on its way through JSON, back into nil.
func nullFixer[T any]() func(*T) {
	fix := nullFix(reflect.TypeFor[T]())
	if fix == nil {
		return func(*T) {}
	}
	return func(v *T) { fix(reflect.ValueOf(v).Elem()) }
}

// nullFix is nil for a type that holds no RawMessage.
func nullFix(t reflect.Type) func(reflect.Value) {
	if t == rawMessage {
		return func(v reflect.Value) {
			if string(v.Bytes()) == "null" {
				v.SetZero()
			}
		}
	}
	switch t.Kind() {
	case reflect.Struct:
		type at struct {
			i   int
			fix func(reflect.Value)
		}
		var fields []at
		for i := range t.NumField() {
			if !t.Field(i).IsExported() {
				continue
			}
			if fix := nullFix(t.Field(i).Type); fix != nil {
				fields = append(fields, at{i, fix})
			}
		}
		if fields == nil {
			return nil
		}
		return func(v reflect.Value) {
			for _, f := range fields {
				f.fix(v.Field(f.i))
			}
		}
	case reflect.Slice:
		if fix := nullFix(t.Elem()); fix != nil {
			return func(v reflect.Value) {
				for i := range v.Len() {
					fix(v.Index(i))
				}
			}
		}
	case reflect.Pointer:
		if fix := nullFix(t.Elem()); fix != nil {
			return func(v reflect.Value) {
				if !v.IsNil() {
					fix(v.Elem())
				}
			}
		}
	}
	return nil
}
