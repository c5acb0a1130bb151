package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
)

// The picture's measures, in its own units.
const (
	plotLabel  = 500 // width of what is left of the bars
	plotUnit   = 200 // width of a ratio of 1
	plotMost   = 2.0 // ratio that is cut off
	plotLine   = 24
	plotTop    = 44
	plotMargin = 64 // to the right of the bars, for the figures
)

// plot draws the ratios as bars, each with a mark where its target is.
func plot(rows []row) []byte {
	width := plotLabel + plotMost*plotUnit + plotMargin
	bottom := plotTop + len(rows)*plotLine
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="#ffffff"/>
<text x="8" y="20" font-size="14">berth divided by the other: shorter is better; the black mark is the target</text>
`, width, bottom+28)
	for _, at := range []float64{0, 0.5, 1, 1.5, 2} {
		x, stroke := plotLabel+at*plotUnit, "#dddddd"
		if at == 1 {
			stroke = "#888888"
		}
		fmt.Fprintf(&b, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="%s"/>`+"\n", x, plotTop-8, x, bottom, stroke)
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle">%g</text>`+"\n", x, bottom+16, at)
	}
	for i, r := range rows {
		drawBar(&b, r, plotTop+i*plotLine)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawBar(b *bytes.Buffer, r row, y int) {
	fill := map[string]string{"ok": "#4c9f70", "missed": "#d1495b"}[r.verdict()]
	if fill == "" {
		fill = "#8d99ae"
	}
	length := min(r.ratio(), plotMost) * plotUnit
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end">`, plotLabel-8, y+13)
	// A buffer does not fail.
	_ = xml.EscapeText(b, []byte(r.work+" / "+r.against))
	fmt.Fprintf(b, "</text>\n"+`<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`+"\n",
		plotLabel, y, length, plotLine-6, fill)
	if r.target != 0 {
		fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="3" height="%d" fill="#000000"/>`+"\n",
			plotLabel+min(r.target, plotMost)*plotUnit-1.5, y-3, plotLine)
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%d">%.2f</text>`+"\n", plotLabel+plotMost*plotUnit+12, y+13, r.ratio())
}
