/** Columns for people: as wide as needed, numbers to the right, `gap` between them. */
export function table(rows: readonly (readonly string[])[], gap = '  '): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0))) ?? [];
  const isNumber = (text: string) => /^[\d.,]+( ?[a-zA-Z%]+)?$/.test(text);
  return rows
    .map(row =>
      row
        .map((cell, column) => (isNumber(cell) ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)))
        .join(gap)
        .trimEnd(),
    )
    .join('\n');
}
