/**
 * When the chunks of a stream came.
 */
export interface ChunkTime {
  readonly index: number;
  readonly type: string;
  /** Milliseconds since the call was sent. */
  readonly at: number;
  /** Characters of its JSON. */
  readonly size: number;
  readonly preview: string;
}

/** Of a long stream the last ones are kept for the list; all are counted. */
export const KEPT_CHUNKS = 500;

export interface Waterfall {
  readonly count: number;
  readonly size: number;
  readonly firstMs: number | undefined;
  readonly lastMs: number | undefined;
  /** The longest wait between two chunks, and after which one. */
  readonly longestGapMs: number | undefined;
  readonly longestGapAfter: number | undefined;
  readonly chunks: readonly ChunkTime[];
}

export const NO_CHUNKS: Waterfall = {
  count: 0,
  size: 0,
  firstMs: undefined,
  lastMs: undefined,
  longestGapMs: undefined,
  longestGapAfter: undefined,
  chunks: [],
};

/** Counts in what came since. */
export function withChunks(waterfall: Waterfall, chunks: readonly ChunkTime[]): Waterfall {
  let { lastMs, longestGapMs, longestGapAfter, size } = waterfall;
  for (const chunk of chunks) {
    const gap = lastMs === undefined ? undefined : chunk.at - lastMs;
    if (gap !== undefined && gap > (longestGapMs ?? -1)) {
      longestGapMs = gap;
      longestGapAfter = chunk.index - 1;
    }
    lastMs = chunk.at;
    size += chunk.size;
  }
  return {
    count: waterfall.count + chunks.length,
    size,
    firstMs: waterfall.firstMs ?? chunks[0]?.at,
    lastMs,
    longestGapMs,
    longestGapAfter,
    chunks: [...waterfall.chunks, ...chunks].slice(-KEPT_CHUNKS),
  };
}
