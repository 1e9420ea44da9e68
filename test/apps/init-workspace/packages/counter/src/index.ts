export const next = (before: number | undefined): number => (before ?? 0) + 1;
