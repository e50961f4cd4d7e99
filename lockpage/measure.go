package lockpage

import "github.com/calmdocs/dblocker/internal/plain"

// A picture does not know in what font it will be seen. So text is measured in the letters of a wide one, DejaVu Sans Bold.

// boldWidths are those of the characters from space to tilde, in hundredths of the size.
var boldWidths = [...]uint8{
	35, 46, 53, 84, 70, 101, 88, 31, 46, 46, 53, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 40, 40, 84, 84, 84, 59,
	100, 78, 77, 74, 84, 69, 69, 83, 84, 38, 38, 78, 64, 100, 84, 86, 74, 86, 78, 73, 69, 82, 78, 111, 78, 73, 73, 46, 37, 46, 84, 50,
	50, 68, 72, 60, 72, 68, 44, 72, 72, 35, 35, 67, 35, 105, 72, 69, 72, 72, 50, 60, 48, 72, 66, 93, 65, 66, 59, 72, 37, 72, 84,
}

// boldWidth is how wide a character is shown at most, but for some of far scripts.
func boldWidth(r rune) int {
	switch {
	case ' ' <= r && r <= '~':
		return int(boldWidths[r-' '])
	case plain.IsUnseen(r):
		return boldWidthOf(plain.Escaped(r))
	case plain.IsMark(r):
		return 0
	case r < 0x250: // Latin, of which few are wider
		return 85
	}
	return 130
}

func boldWidthOf(s string) (width int) {
	for _, r := range s {
		width += boldWidth(r)
	}
	return width
}

// pixels is how wide a text is in letters of the size, and within cuts what is wider than so many.
func pixels(s string, size int) int              { return (boldWidthOf(s)*size + 99) / 100 }
func within(s string, most int, size int) string { return cut(s, most*100/size, boldWidth) }
