package rest

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/cardea-apim/cardea/internal/fault"
)

// MaxUpload bounds an uploaded definition or image, in bytes.
const MaxUpload = 32 << 20

const maxParts = 32

// formSlack is what boundaries, part headers, preamble and epilogue of a form
// may take beyond its parts, in bytes.
const formSlack = 1 << 20

// bounded fails with fault.BodyTooLarge when more than left bytes are read.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, &fault.BodyTooLarge
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

// File is one uploaded part.
type File struct {
	Name string // file name as sent, for its extension only
	Type string // content type as sent
	Data []byte
}

// Form is a decoded multipart or URL-encoded body.
type Form struct {
	Values map[string]string
	Files  map[string]*File
}

// Text is a field's text, whether it came as a plain part or as a file.
func (f *Form) Text(name string) string {
	if v, ok := f.Values[name]; ok {
		return v
	}
	if file := f.Files[name]; file != nil {
		return string(file.Data)
	}
	return ""
}

// Bytes are a field's bytes, or nil if it is absent.
func (f *Form) Bytes(name string) []byte {
	if file := f.Files[name]; file != nil {
		return file.Data
	}
	if v, ok := f.Values[name]; ok {
		return []byte(v)
	}
	return nil
}

// ReadForm reads a multipart/form-data (or URL-encoded) body part by part,
// holding at most limit bytes in all.
func ReadForm(r *http.Request, limit int64) (*Form, error) {
	f := &Form{Values: map[string]string{}, Files: map[string]*File{}}
	mt, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, fault.MediaType.With("The body must be multipart/form-data")
	}
	switch mt {
	case "application/x-www-form-urlencoded":
		b, err := readBounded(r.Body, limit)
		if err != nil {
			return nil, err
		}
		q, err := url.ParseQuery(string(b))
		if err != nil {
			return nil, fault.BadRequest.With("The form is malformed")
		}
		for k := range q {
			f.Values[k] = q.Get(k)
		}
		return f, nil
	case "multipart/form-data":
		// What is no part's content is bounded too: a preamble has no end of its own.
		body := &bounded{r: r.Body, left: limit + formSlack}
		return f, f.readParts(multipart.NewReader(body, params["boundary"]), limit)
	}
	return nil, fault.MediaType.With("The body must be multipart/form-data")
}

func (f *Form) readParts(mr *multipart.Reader, left int64) error {
	for n := 0; ; n++ {
		p, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if f, ok := errors.AsType[*fault.Error](err); ok {
			return f
		}
		if err != nil {
			return fault.BadRequest.With("The multipart body is malformed").Because(err)
		}
		if n == maxParts {
			return fault.BadRequest.Withf("The form has more than %d parts", maxParts)
		}
		b, err := readBounded(p, left)
		if err != nil {
			return err
		}
		left -= int64(len(b))
		name := p.FormName()
		if name == "" {
			continue
		}
		if p.FileName() != "" {
			f.Files[name] = &File{Name: p.FileName(), Type: p.Header.Get("Content-Type"), Data: b}
			continue
		}
		f.Values[name] = string(b)
	}
}
