package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// unknownKey names a key that means nothing, and the one that was probably
// meant.
func unknownKey(path string, key toml.Key) error {
	message := "unknown key"
	if len(key) < 2 && !strings.Contains(key.String(), ".") {
		message = "unknown table or key"
	}
	if near := nearest(key); near != "" {
		message += fmt.Sprintf(" (did you mean %s?)", near)
	}
	return &Error{File: path, Key: key.String(), Err: errors.New(message)}
}

// known tells whether a table has a key, in these very letters.
func known(table reflect.Type, key toml.Key) bool {
	if len(key) == 0 {
		return true
	}
	for i := range table.NumField() {
		field := table.Field(i)
		switch {
		case field.Anonymous:
			if known(field.Type, key) {
				return true
			}
		case field.Tag.Get("toml") != key[0]:
		case field.Type.Kind() == reflect.Struct:
			return known(field.Type, rest(key))
		case field.Type.Kind() == reflect.Map:
			return known(field.Type.Elem(), rest(rest(key)))
		default:
			return len(key) == 1
		}
	}
	return false
}

// nearest is the known key that differs least from the unknown one; "" if all
// differ in more than half of the letters of its last part.
func nearest(key toml.Key) string {
	unknown := key.String()
	best, least := "", len(key[len(key)-1])/2
	for _, known := range knownKeys(reflect.TypeFor[file](), key) {
		if d := distance(unknown, known); d < least || d == least && best == "" {
			best, least = known, d
		}
	}
	return best
}

// knownKeys lists the keys of a table, dotted. A table whose keys are names
// that anybody may choose has the name that the unknown key has in its place.
func knownKeys(table reflect.Type, key toml.Key) []string {
	var keys []string
	for i := range table.NumField() {
		field := table.Field(i)
		if field.Anonymous {
			keys = append(keys, knownKeys(field.Type, key)...)
			continue
		}
		name := field.Tag.Get("toml")
		var inner []string
		switch field.Type.Kind() {
		case reflect.Struct:
			inner = knownKeys(field.Type, rest(key))
		case reflect.Map:
			if len(key) < 2 || distance(key[0], name) > len(name)/2 {
				break
			}
			chosen := toml.Key{key[1]}.String()
			for _, k := range knownKeys(field.Type.Elem(), rest(rest(key))) {
				inner = append(inner, chosen+"."+k)
			}
		}
		keys = append(keys, name)
		for _, k := range inner {
			keys = append(keys, name+"."+k)
		}
	}
	return keys
}

func rest(key toml.Key) toml.Key {
	if len(key) == 0 {
		return nil
	}
	return key[1:]
}

// distance is the number of letters to insert, delete or replace to get from
// one word to the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
