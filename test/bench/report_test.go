package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func someReport() *report {
	m := took(3 * time.Second)
	m.group, m.command = "zst", "berth install x"
	r := &report{date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), rounds: 3, machine: []fact{{"kernel", "Linux 6"}}}
	r.add([]measured{m},
		row{"install", "tar", 1, 2, seconds, 0.6},
		row{"upgrade", "cp <al>", 3, 2, seconds, 0.6},
		row{"exec", "bwrap", 30, 2, seconds, 0},
	)
	return r
}

func TestMarkdownHasEveryFigure(t *testing.T) {
	page := string(someReport().markdown())
	for _, want := range []string{
		"2 January 2026", "3 rounds",
		"| install | tar | 1.00 s | 2.00 s | 0.50 | 0.60 | ok |",
		"| upgrade | cp <al> | 3.00 s | 2.00 s | 1.50 | 0.60 | missed |",
		"| exec | bwrap | 30.00 s | 2.00 s | 15.00 | – | – |",
		"1 targets met, 1 missed", "| kernel | Linux 6 |",
		"| zst | `berth install x` | 3.00 s | 3.00 s | 3.00 s | 1.50 s | 1.0 MiB |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}

func TestTextHasEveryRow(t *testing.T) {
	var b bytes.Buffer
	if err := someReport().text(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"install", "upgrade", "exec", "missed", "berth install x"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, b.String())
		}
	}
}

// What a picture draws: x and width of its rectangles, and its texts.
func drawn(t *testing.T, picture []byte) (rects [][2]string, texts []string) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(picture))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return rects, texts
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, picture)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if token.Name.Local == "rect" {
				var r [2]string
				for _, a := range token.Attr {
					switch a.Name.Local {
					case "x":
						r[0] = a.Value
					case "width":
						r[1] = a.Value
					}
				}
				rects = append(rects, r)
			}
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
}

func TestPlot(t *testing.T) {
	rects, texts := drawn(t, plot(someReport().rows))
	want := [][2]string{
		{"", "100%"},
		{"500", "100.0"}, {"618.5", "3"}, // 0.5, and its target
		{"500", "300.0"}, {"618.5", "3"},
		{"500", "400.0"}, // cut off; without a target
	}
	if len(rects) != len(want) {
		t.Fatalf("%d rectangles: %v", len(rects), rects)
	}
	for i := range want {
		if rects[i] != want[i] {
			t.Errorf("rectangle %d is %v, want %v", i, rects[i], want[i])
		}
	}
	for _, text := range []string{"upgrade / cp <al>", "15.00"} {
		if !strings.Contains(strings.Join(texts, "\n"), text) {
			t.Errorf("no text %q: %q", text, texts)
		}
	}
}
