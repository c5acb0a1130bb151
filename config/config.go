// Package config reads the configuration: TOML files, their defaults and
// their units. docs/configuration.md lists the keys.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Config is what the files say, over the defaults.
type Config struct {
	GC       Policy
	Store    Store
	Runtimes map[string]Runtime
}

// Policy says what a collection retains.
type Policy struct {
	Keep                    int           // versions besides the current one
	KeepNewer               time.Duration // since a version was current
	Grace                   time.Duration // since it was installed
	MaxSize                 int64         // bytes; 0: any
	MinFree                 int64         // bytes; 0: any
	RequireCompleteEvidence bool
}

// Store is how a store is written.
type Store struct {
	MaxUnpacked int64 // bytes that one archive may unpack to
	Dedup       bool  // link unchanged files from versions that are installed
}

// Runtime is where a runtime comes from, and its own policy.
type Runtime struct {
	Source string // the channel: a directory
	// What overrides [gc]; nil where nothing does.
	Keep      *int
	KeepNewer *time.Duration
	Grace     *time.Duration
}

// Default is the configuration without any file.
func Default() Config {
	return Config{
		GC:       Policy{Keep: 2, Grace: time.Hour},
		Store:    Store{MaxUnpacked: 64 << 30, Dedup: true},
		Runtimes: map[string]Runtime{},
	}
}

// PolicyFor is the policy of one runtime. MaxSize and MinFree are the whole
// store's in any case.
func (c Config) PolicyFor(name string) Policy {
	p, r := c.GC, c.Runtimes[name]
	if r.Keep != nil {
		p.Keep = *r.Keep
	}
	if r.KeepNewer != nil {
		p.KeepNewer = *r.KeepNewer
	}
	if r.Grace != nil {
		p.Grace = *r.Grace
	}
	return p
}

// Paths are the files that are read where none is named: the system's, then
// the person's. Root has none of his own.
func Paths(root bool, getenv func(string) string) []string {
	paths := []string{"/etc/berth/config.toml"}
	if root {
		return paths
	}
	dir := getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		home := getenv("HOME")
		if !filepath.IsAbs(home) {
			return paths
		}
		dir = filepath.Join(home, ".config")
	}
	return append(paths, filepath.Join(dir, "berth", "config.toml"))
}

// Load reads the files in turn, each over what the earlier ones say, key by
// key. A file that is not there is passed over.
func Load(paths ...string) (Config, error) {
	c := Default()
	for _, path := range paths {
		if err := c.read(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Config{}, err
		}
	}
	return c, nil
}

// LoadFile reads one file, which must be there.
func LoadFile(path string) (Config, error) {
	c := Default()
	if err := c.read(path); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Error is a configuration that cannot be used.
type Error struct {
	File string // "" if it is about all of them together
	Key  string // dotted; "" if it is about the file as a whole
	Err  error
}

func (e *Error) Error() string {
	text := "cannot read the configuration"
	if e.File != "" {
		text += " " + e.File
	}
	if e.Key != "" {
		text += ": " + e.Key
	}
	return text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// The files, key by key. A nil pointer is a key that is not there.
type (
	file struct {
		GC      policyKeys             `toml:"gc"`
		Store   storeKeys              `toml:"store"`
		Runtime map[string]runtimeKeys `toml:"runtime"`
	}
	policyKeys struct {
		retentionKeys
		MaxSize                 *size `toml:"max-size"`
		MinFree                 *size `toml:"min-free"`
		RequireCompleteEvidence *bool `toml:"require-complete-evidence"`
	}
	retentionKeys struct {
		Keep      *count    `toml:"keep"`
		KeepNewer *duration `toml:"keep-newer"`
		Grace     *duration `toml:"grace"`
	}
	storeKeys struct {
		MaxUnpacked *size `toml:"max-unpacked"`
		Dedup       *bool `toml:"dedup"`
	}
	runtimeKeys struct {
		retentionKeys
		Source *string `toml:"source"`
	}
)

func (c *Config) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return &Error{File: path, Err: err}
	}
	var f file
	meta, err := toml.Decode(string(text), &f)
	if err != nil {
		return &Error{File: path, Err: plain(err)}
	}
	// The decoder takes keys for known whose letters differ in case.
	for _, key := range meta.Keys() {
		if !known(reflect.TypeFor[file](), key) {
			return unknownKey(path, key)
		}
	}
	for name, keys := range f.Runtime {
		// Whose working directory it would be relative to, nobody knows.
		if from := keys.Source; from != nil && *from != "" && !filepath.IsAbs(*from) {
			return &Error{File: path, Key: toml.Key{"runtime", name, "source"}.String(), Err: fmt.Errorf("%q is no absolute path", *from)}
		}
	}
	f.apply(c)
	return nil
}

// plain is a decoding error in our own manner: without the library's name in
// front, lower case, no full stop.
func plain(err error) error {
	var p toml.ParseError
	message, where := strings.TrimPrefix(err.Error(), "toml: "), ""
	if errors.As(err, &p) {
		if p.Message != "" {
			message = p.Message
		}
		where = fmt.Sprintf("line %d: ", p.Position.Line)
		if p.LastKey != "" {
			where = fmt.Sprintf("line %d, %s: ", p.Position.Line, p.LastKey)
		}
	}
	first, size := utf8.DecodeRuneInString(message)
	return errors.New(where + string(unicode.ToLower(first)) + strings.TrimSuffix(message[size:], "."))
}

func (f *file) apply(c *Config) {
	set(&c.GC.Keep, f.GC.Keep)
	set(&c.GC.KeepNewer, f.GC.KeepNewer)
	set(&c.GC.Grace, f.GC.Grace)
	set(&c.GC.MaxSize, f.GC.MaxSize)
	set(&c.GC.MinFree, f.GC.MinFree)
	if f.GC.RequireCompleteEvidence != nil {
		c.GC.RequireCompleteEvidence = *f.GC.RequireCompleteEvidence
	}
	set(&c.Store.MaxUnpacked, f.Store.MaxUnpacked)
	if f.Store.Dedup != nil {
		c.Store.Dedup = *f.Store.Dedup
	}
	for name, keys := range f.Runtime {
		r := c.Runtimes[name]
		if keys.Source != nil {
			r.Source = *keys.Source
		}
		override(&r.Keep, keys.Keep)
		override(&r.KeepNewer, keys.KeepNewer)
		override(&r.Grace, keys.Grace)
		c.Runtimes[name] = r
	}
}

// number is a key's type and the one that it stands for.
type number interface{ ~int | ~int64 }

func set[To, From number](to *To, from *From) {
	if from != nil {
		*to = To(*from)
	}
}

func override[To, From number](to **To, from *From) {
	if from != nil {
		value := To(*from)
		*to = &value
	}
}
