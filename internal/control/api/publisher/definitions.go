package publisher

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"

	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

func (s *server) getSwagger(w http.ResponseWriter, r *http.Request) error {
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	b, ct, err := s.pub.Definition(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	rest.SetTag(w, tag(a))
	return rest.Raw(w, http.StatusOK, ct, b)
}

// source takes the definition out of a form and refuses one that is larger than
// this installation takes.
func (s *server) source(r *http.Request, f *rest.Form, inline string) ([]byte, error) {
	b, err := s.sent(r, f, inline)
	if err == nil && int64(len(b)) > s.pub.MaxDefinition {
		return nil, fault.BodyTooLarge.Withf("The definition is larger than %d bytes", s.pub.MaxDefinition)
	}
	return b, err
}

// sent is the definition of a form: a file, inline text or a URL.
func (s *server) sent(r *http.Request, f *rest.Form, inline string) ([]byte, error) {
	if file := f.Files["file"]; file != nil && len(file.Data) > 0 {
		if isArchive(file.Data) {
			return unzip(file.Data)
		}
		return file.Data, nil
	}
	if b := f.Bytes(inline); len(b) > 0 {
		return b, nil
	}
	if b := f.Bytes("file"); len(b) > 0 {
		return b, nil
	}
	if u := f.Text("url"); u != "" {
		return s.pub.Fetched(r.Context(), u)
	}
	return nil, fault.BadRequest.With("A definition is required: file, url or inline text")
}

func (s *server) updateSwagger(w http.ResponseWriter, r *http.Request) error {
	f, err := rest.ReadForm(r, s.pub.MaxDefinition+1<<20)
	if err != nil {
		return err
	}
	b, err := s.source(r, f, "apiDefinition")
	if errors.Is(err, &fault.ArchiveWithoutRoot) { // pinned for the import alone
		return fault.OpenAPIMissing.With("The archive has no definition in its root")
	}
	if err != nil {
		return err
	}
	a, err := s.pub.SetDefinition(r.Context(), apiID(r), b, guard(r))
	if err != nil {
		return err
	}
	stored, ct, err := s.pub.Definition(r.Context(), a.ID)
	if err != nil {
		return err
	}
	rest.SetTag(w, tag(a))
	return rest.Raw(w, http.StatusOK, ct, stored)
}

func (s *server) importOpenAPI(w http.ResponseWriter, r *http.Request) error {
	f, err := rest.ReadForm(r, s.pub.MaxDefinition+1<<20)
	if err != nil {
		return err
	}
	in := &apiIn{}
	if p := f.Bytes("additionalProperties"); len(bytes.TrimSpace(p)) > 0 {
		if len(p) > 16<<20 {
			return fault.BodyTooLarge.With("additionalProperties is too large")
		}
		if err := rest.Unmarshal(p, in); err != nil {
			return err
		}
	}
	b, err := s.source(r, f, "inlineAPIDefinition")
	if err != nil {
		return err
	}
	doc, err := definition.Read(b)
	if err != nil {
		return err
	}
	a, err := s.pub.Import(r.Context(), in.toAPI(), doc)
	if err != nil {
		return err
	}
	return s.answer(w, http.StatusCreated, a, nil)
}

type verdictDTO struct {
	IsValid bool           `json:"isValid"`
	Content *string        `json:"content"`
	Info    *verdictInfo   `json:"info"`
	Errors  []verdictError `json:"errors"`
}

type verdictInfo struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	Context     *string  `json:"context"`
	Description *string  `json:"description"`
	OpenAPI     string   `json:"openAPIVersion"`
	Endpoints   []string `json:"endpoints"`
}

type verdictError struct {
	Code        string `json:"code"`
	Message     string `json:"message"`
	Description string `json:"description"`
}

func (s *server) validateOpenAPI(w http.ResponseWriter, r *http.Request) error {
	f, err := rest.ReadForm(r, s.pub.MaxDefinition+1<<20)
	if err != nil {
		return err
	}
	b, err := s.source(r, f, "inlineAPIDefinition")
	if errors.Is(err, &fault.ArchiveWithoutRoot) {
		err = fault.OpenAPIMissing.With("The archive has no definition in its root")
	}
	v := verdictDTO{Errors: []verdictError{}}
	var doc *definition.Doc
	if err == nil {
		doc, err = definition.Read(b)
	}
	if err != nil {
		e := fault.Of(err)
		if e.Kind != fault.Invalid || e.Code == fault.BadRequest.Code {
			return err
		}
		v.Errors = append(v.Errors, verdictError{strconv.Itoa(e.Code), e.Msg, e.Detail})
		return rest.JSON(w, http.StatusOK, v)
	}
	in := doc.Info()
	v.IsValid = true
	v.Info = &verdictInfo{
		Name: in.Title, Version: in.Version, Context: optional(in.Context), Description: optional(in.Description),
		OpenAPI: in.OpenAPI, Endpoints: list(in.Endpoints),
	}
	if ok, perr := strconv.ParseBool(r.URL.Query().Get("returnContent")); perr == nil && ok {
		c := string(doc.Bytes)
		v.Content = &c
	}
	return rest.JSON(w, http.StatusOK, v)
}

// isArchive recognises a zip archive, also one without entries.
func isArchive(b []byte) bool {
	return bytes.HasPrefix(b, []byte("PK\x03\x04")) || bytes.HasPrefix(b, []byte("PK\x05\x06"))
}
