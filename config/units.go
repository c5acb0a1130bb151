package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// ParseDuration reads a duration as time.ParseDuration does ("36h", "1h30m"),
// and whole or broken days and weeks: "14d", "2w". It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	fail := fmt.Errorf("%q is no duration such as 90s, 36h, 14d or 2w", s)
	unit := time.Duration(0)
	switch {
	case strings.HasSuffix(s, "d"):
		unit = day
	case strings.HasSuffix(s, "w"):
		unit = week
	}
	if unit == 0 {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, fail
		}
		return d, nil
	}
	n, err := parseNumber(s[:len(s)-1])
	if err != nil || n*float64(unit) >= math.MaxInt64 {
		return 0, fail
	}
	return time.Duration(n * float64(unit)), nil
}

var sizeUnits = map[string]float64{
	"": 1, "B": 1,
	"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
	"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
}

// ParseSize reads a number of bytes: "1024", "500MB" (10^6), "20GiB" and "20G"
// (2^30). It is never negative.
func ParseSize(s string) (int64, error) {
	fail := fmt.Errorf("%q is no size such as 500MB or 20GiB", s)
	digits := strings.TrimRight(s, "iBKkMGTP ")
	unit, ok := sizeUnits[strings.TrimSpace(s[len(digits):])]
	n, err := parseNumber(digits)
	if !ok || err != nil || n*unit >= math.MaxInt64 {
		return 0, fail
	}
	return int64(n * unit), nil
}

// parseNumber reads decimal digits with at most one point: no sign, exponent
// or hexadecimal, which strconv reads as well.
func parseNumber(s string) (float64, error) {
	if strings.Trim(s, "0123456789.") != "" {
		return 0, errors.New("not a number")
	}
	return strconv.ParseFloat(s, 64)
}

// FormatSize writes a number of bytes for people, in binary units: "1.2 GiB".
func FormatSize(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, units := float64(n), "KMGTPE"
	for value >= 1023.95 && units != "" {
		value /= 1 << 10
		if value < 1023.95 || len(units) == 1 {
			break
		}
		units = units[1:]
	}
	return fmt.Sprintf("%.1f %ciB", value, units[0])
}

// The types of the keys, which refuse what is no value of theirs.
type (
	duration time.Duration
	size     int64
	count    int
)

func (d *duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	*d = duration(v)
	return err
}

func (n *size) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case int64:
		if v >= 0 {
			*n = size(v)
			return nil
		}
	case string:
		bytes, err := ParseSize(v)
		*n = size(bytes)
		return err
	}
	return fmt.Errorf("%s is no size such as 500MB or 20GiB", written(value))
}

func (n *count) UnmarshalTOML(value any) error {
	v, ok := value.(int64)
	if !ok || v < 0 || v > math.MaxInt32 {
		return fmt.Errorf("%s is no number of versions", written(value))
	}
	*n = count(v)
	return nil
}

// written is a value as TOML has it: 2.0 is another than 2.
func written(value any) string {
	text := fmt.Sprint(value)
	if _, ok := value.(float64); ok && !strings.ContainsAny(text, ".en") {
		text += ".0"
	}
	return text
}
