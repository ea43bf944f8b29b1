package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// shippedStores are names of the original's own files: where the file is
// absent, they mean what home's authority made.
var shippedStores = []string{"wso2carbon.jks", "wso2am.p12", "client-truststore.jks", "client-truststore.p12"}

// certificate is the server certificate of the configuration: ours in PEM, or a
// keystore of the original's.
func (l *loader) certificate(v Values) Certificate {
	key := "cardea.certificate.file"
	if file := v.String(key, ""); file != "" {
		c := Certificate{File: file, KeyFile: v.String("cardea.certificate.key_file", "")}
		return l.pemPair(key, c)
	}
	section := "keystore.tls"
	if !slices.ContainsFunc([]string{"file_name", "type", "password", "alias", "key_password", "key_file"}, func(k string) bool {
		return v.Has(section + "." + k)
	}) {
		section = "keystore.primary"
	}
	// A member that keystore.tls leaves out is that of keystore.primary.
	get := func(k string) string { return v.String(section+"."+k, v.String("keystore.primary."+k, "")) }
	if own := v.String("keystore.primary.file_name", ""); own != "" && l.resourceFile(own) != "" {
		l.warnings = append(l.warnings, "keystore.primary: its key is shown to TLS clients, but tokens are not signed with it yet; they are signed with keys of our own, which /oauth2/jwks publishes")
	}
	key = section + ".file_name"
	file := get("file_name")
	if file == "" {
		return Certificate{}
	}
	path := l.resourceFile(file)
	switch {
	case path == "" && slices.Contains(shippedStores, filepath.Base(file)):
		return Certificate{}
	case path == "":
		l.fail(l.at(key), "%s: no such file %s", key, file)
		return Certificate{}
	case isPEM(path):
		return l.pemPair(key, Certificate{File: path, KeyFile: get("key_file")})
	}
	return Certificate{Keystore: Keystore{
		File: path, Type: l.storeType(section+".type", get("type"), path), Alias: get("alias"),
		Password: Secret(get("password")), KeyPassword: Secret(get("key_password")),
	}}
}

// pemPair finds the files of a PEM certificate; without a key file the key is
// in the same file.
func (l *loader) pemPair(key string, c Certificate) Certificate {
	path := l.resourceFile(c.File)
	if path == "" {
		l.fail(l.at(key), "%s: no such file %s", key, c.File)
		return Certificate{}
	}
	c.File = path
	if c.KeyFile == "" {
		c.KeyFile = path
	} else if c.KeyFile = l.resourceFile(c.KeyFile); c.KeyFile == "" {
		l.fail(l.at(key), "%s: the key file does not exist", key)
	}
	return c
}

// truststore is whom others must be certified by, besides the system's authorities.
func (l *loader) truststore(v Values) Keystore {
	const key = "truststore.file_name"
	file := v.String(key, "")
	if file == "" {
		return Keystore{}
	}
	path := l.resourceFile(file)
	if path == "" {
		if !slices.Contains(shippedStores, filepath.Base(file)) {
			l.fail(l.at(key), "%s: no such file %s", key, file)
		}
		return Keystore{}
	}
	return Keystore{
		File: path, Type: l.storeType("truststore.type", v.String("truststore.type", ""), path),
		Password: v.Secret("truststore.password", "wso2carbon"),
	}
}

func isPEM(file string) bool {
	return slices.Contains([]string{".pem", ".crt", ".cer"}, strings.ToLower(filepath.Ext(file)))
}

// storeType is PEM, PKCS12 or JKS; what is not said follows from the file's name.
func (l *loader) storeType(key, said, file string) string {
	ext := strings.ToLower(filepath.Ext(file))
	if isPEM(file) {
		return "PEM"
	}
	switch strings.ToUpper(said) {
	case "PKCS12", "JKS":
		return strings.ToUpper(said)
	case "":
		if ext == ".p12" || ext == ".pfx" {
			return "PKCS12"
		}
		return "JKS"
	}
	l.fail(l.at(key), "%s: want PKCS12 or JKS, or give a PEM file", key)
	return ""
}
