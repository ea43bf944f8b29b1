package client

import "testing"

func TestOutlineOfADocument(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, source, doc      string
		server, sample, called string
	}{
		{
			name: "the shortest path that a plain GET can call", source: "-",
			doc: "openapi: 3.0.1\ninfo: {title: 'Swagger Petstore - OpenAPI 3.1'}\nservers: [{url: 'https://pets.example/v1/'}]\n" +
				"paths: {'/pets/{id}': {get: {}}, /a: {post: {}}, /pets/all: {get: {}}, /pets: {get: {}}}\n",
			server: "https://pets.example/v1", sample: "/pets", called: "Swagger-Petstore-OpenAPI-31",
		},
		{
			name: "nothing that a plain GET can call", source: "-",
			doc:    `{"openapi": "3.1.0", "info": {"title": "X"}, "paths": {"/a/{id}": {"get": {}}, "/b": {"put": {}}}}`,
			sample: "/", called: "X",
		},
		{
			name: "a relative server, resolved against where the document came from", source: "https://api.example/docs/openapi.json",
			doc:    `{"openapi": "3.1.0", "info": {"title": "X"}, "servers": [{"url": "/api/v3"}]}`,
			server: "https://api.example/api/v3", sample: "/", called: "X",
		},
		{
			name: "a relative server of a file", source: "",
			doc:    `{"openapi": "3.1.0", "info": {"title": "X"}, "servers": [{"url": "/api/v3"}]}`,
			sample: "/", called: "X",
		},
		{
			name: "Swagger 2", source: "",
			doc:    `{"swagger": "2.0", "info": {"title": "X"}, "host": "old.example", "basePath": "/v2", "schemes": ["http"]}`,
			server: "http://old.example/v2", sample: "/", called: "X",
		},
	}
	for _, tt := range tests {
		d, err := outline([]byte(tt.doc))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := d.server(tt.source); got != tt.server {
			t.Errorf("%s: server = %q, want %q", tt.name, got, tt.server)
		}
		if got := d.sample(); got != tt.sample {
			t.Errorf("%s: sample = %q, want %q", tt.name, got, tt.sample)
		}
		if got := cleanName(d.Info.Title); got != tt.called {
			t.Errorf("%s: name = %q, want %q", tt.name, got, tt.called)
		}
	}
	if _, err := outline([]byte(`{"a": 1}`)); err == nil {
		t.Error("something that is no OpenAPI document was read")
	}
}
