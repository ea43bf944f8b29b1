package publisher

import (
	"archive/zip"
	"bytes"
	"io"
	"strings"

	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
)

// maxEntries and maxRatio bound an uploaded archive.
const (
	maxEntries = 1000
	maxRatio   = 200
)

// unzip takes the master file out of an archive: swagger or openapi, in JSON or
// YAML, in the root or in the archive's only top folder. Nothing is written to
// disk and no path is followed.
func unzip(b []byte) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fault.BadRequest.With("The archive cannot be read").Because(err)
	}
	if len(z.File) > maxEntries {
		return nil, fault.BadRequest.Withf("The archive has more than %d entries", maxEntries)
	}
	for _, f := range z.File {
		dir, name, ok := strings.Cut(f.Name, "/")
		if !ok {
			dir, name = "", f.Name
		}
		if strings.Contains(name, "/") || dir == ".." || !f.Mode().IsRegular() {
			continue
		}
		switch name {
		case "swagger.json", "swagger.yaml", "swagger.yml", "openapi.json", "openapi.yaml", "openapi.yml":
			return inflate(f)
		}
	}
	return nil, &fault.ArchiveWithoutRoot
}

func inflate(f *zip.File) ([]byte, error) {
	if f.UncompressedSize64 > definition.MaxSize || f.UncompressedSize64 > maxRatio*(f.CompressedSize64+1024) {
		return nil, fault.BodyTooLarge.With("The definition in the archive is too large")
	}
	r, err := f.Open()
	if err != nil {
		return nil, fault.BadRequest.With("The archive cannot be read").Because(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, definition.MaxSize+1))
	if err != nil {
		return nil, fault.BadRequest.With("The archive cannot be read").Because(err)
	}
	return b, nil
}
