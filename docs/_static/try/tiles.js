// Where tiles lie and how they fade into each other: clusir_modules/inference/tiles.py in JavaScript.

// Spans [start, stop) of at most `tile` pixels that share at least `overlap` with the next.
export function tileSpans(length, tile, overlap, multiple) {
  if (tile % multiple || tile - overlap < multiple) multiple = 1;
  const last = Math.ceil(Math.max(length - tile, 0) / multiple) * multiple;
  const stride = Math.floor((tile - overlap) / multiple) * multiple;
  const starts = [];
  for (let start = 0; start < last; start += stride) starts.push(start);
  return [...starts, last].map((start) => [start, Math.min(start + tile, length)]);
}

function rise(length, over) {
  return Float64Array.from({ length }, (_, place) =>
    over ? Math.sin((Math.min((place + 0.5) / over, 1) * Math.PI) / 2) ** 2 : 1,
  );
}

// Weights of each span along one axis; at each pixel they sum to 1.
export function windows(spans) {
  const total = new Float64Array(spans.at(-1)[1]);
  const weights = spans.map(([start, stop], number) => {
    const before = number > 0 ? spans[number - 1][1] - start : 0;
    const after = number < spans.length - 1 ? stop - spans[number + 1][0] : 0;
    const falling = rise(stop - start, after).reverse();
    return rise(stop - start, before).map((weight, place) => weight * falling[place]);
  });
  spans.forEach(([start], number) => weights[number].forEach((weight, place) => (total[start + place] += weight)));
  return spans.map(([start], number) => weights[number].map((weight, place) => weight / total[start + place]));
}

// The side of tiles, between the smallest and the largest, with which the fewest pixels run; of equals the largest.
export function bestTile(lengths, { smallest_tile, largest_tile, overlap, multiple }) {
  let [best, least] = [largest_tile, Infinity];
  for (let tile = largest_tile; tile >= smallest_tile; tile -= multiple) {
    const covered = lengths.map((length) =>
      tileSpans(length, tile, overlap, multiple).reduce((sum, [start, stop]) => sum + stop - start, 0),
    );
    const pixels = covered[0] * covered[1];
    if (pixels < least) [best, least] = [tile, pixels];
  }
  return best;
}
