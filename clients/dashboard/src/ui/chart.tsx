/**
 * A line chart over time. All charts of the page share one window of time and one cursor.
 */
import { effect, signal, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { clock } from "../core/format.ts";
import { metrics, pastVersion, ring } from "../hub/feeds.ts";
import { live, oldBy } from "../hub/status.ts";
import { scheme } from "./theme.ts";

export interface Line {
  /** The member of `system.metrics`. */
  readonly name: string;
  readonly label: string;
  /** A CSS variable. */
  readonly color: string;
}

interface ChartProps {
  readonly title: string;
  readonly lines: readonly Line[];
  readonly format: (value: number | undefined) => string;
}

/** What part of time is looked at, in seconds since 1970; undefined follows the present. */
export const zoom = signal<{ readonly from: number; readonly to: number } | undefined>(undefined);
/** How much of the past is shown while the present is followed, in seconds. */
export const span = signal(300);

const HEIGHT = 130;
const MIN_ZOOM_SECONDS = 2;
/** A page that has just been opened shows what there is, but not one second as wide as the screen. */
const MIN_SPAN_SECONDS = 30;
const SYNC = uPlot.sync("time");

export function Chart(props: ChartProps): JSX.Element | null {
  const known = metrics.value?.numbers;
  // An older hub does not count everything: a chart of nothing is left out.
  return known === undefined || props.lines.some(({ name }) => name in known) ? <Plot {...props} /> : null;
}

function Plot({ title, lines, format }: ChartProps): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const index = useSignal<number | undefined>(undefined);
  useEffect(() => {
    const target = place.current;
    if (target === null) {
      return undefined;
    }
    // The lines of a chart never change.
    return draw(target, lines, format, (at) => {
      index.value = at;
    });
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, []);
  const at = index.value;
  const columns = at === undefined ? undefined : ring.columns(lines.map(({ name }) => name));
  const values = lines.map(({ name }, line) =>
    columns === undefined || at === undefined ? metrics.value?.numbers[name] : (columns[line + 1]?.[at] ?? undefined),
  );
  const time = at === undefined ? undefined : columns?.[0][at];
  const said = lines.map(({ label }, line) => `${label} ${format(values[line])}`).join(", ");
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
        <span class="when">{time === undefined ? "" : clock(time * 1_000)}</span>
        <ul class="legend">
          {lines.map(({ label, color: name }, line) => (
            <li key={label}>
              <span class={`swatch ${name.replace("--", "")}`} />
              {label} <b class={at === undefined && !live.value ? "old" : ""}>{format(values[line])}</b>
            </li>
          ))}
        </ul>
      </figcaption>
      <div ref={place} class="plot" role="img" aria-label={`${title}: ${oldBy.value === undefined ? "" : "last known "}${said}`} />
    </figure>
  );
}

function draw(target: HTMLElement, lines: readonly Line[], format: ChartProps["format"], point: (at: number | undefined) => void): () => void {
  const names = lines.map(({ name }) => name);
  const plot = new uPlot(options(target.clientWidth, lines, format, point), ring.columns(names), target);
  const stop = effect(() => {
    void metrics.value;
    void pastVersion.value;
    void zoom.value;
    void span.value;
    plot.setData(ring.columns(names));
  });
  const stopTheme = effect(() => {
    void scheme.value;
    plot.redraw(false, true);
  });
  const sizes = new ResizeObserver(() => {
    plot.setSize({ width: target.clientWidth, height: HEIGHT });
  });
  sizes.observe(target);
  return () => {
    stop();
    stopTheme();
    sizes.disconnect();
    plot.destroy();
  };
}

function options(width: number, lines: readonly Line[], format: ChartProps["format"], point: (at: number | undefined) => void): uPlot.Options {
  const axis = { stroke: () => color("--muted"), grid: { stroke: () => color("--line"), width: 1 }, ticks: { show: false } };
  const font = "11px Inter, system-ui, sans-serif";
  return {
    width,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: {
      sync: { key: SYNC.key, scales: ["x", null] },
      drag: { x: true, y: false, setScale: false },
      points: { size: 6 },
      bind: { dblclick: () => follow },
    },
    scales: { x: { range: shownTime }, y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, font, size: 24, space: 70, values: (_plot, times) => times.map((time) => clock(time * 1_000)) },
      { ...axis, font, size: 56, gap: 4, space: 34, values: (_plot, values) => values.map((value) => format(value).replace(/\.0+(?= |$)/u, "")) },
    ],
    series: [{}, ...lines.map((line) => series(line))],
    hooks: {
      setCursor: [({ cursor }) => {
          point(cursor.idx ?? undefined);
        }],
      setSelect: [select],
    },
  };
}

function series({ label, color: name }: Line): uPlot.Series {
  return { label, stroke: () => color(name), width: 1.5, points: { show: false }, spanGaps: false };
}

function shownTime(): [number, number] {
  const { from, to } = zoom.peek() ?? { from: 0, to: 0 };
  if (to > 0) {
    return [from, to];
  }
  const last = (metrics.peek()?.at ?? Date.now()) / 1_000;
  const first = (ring.first ?? Date.now()) / 1_000;
  return [Math.max(last - span.peek(), Math.min(first, last - MIN_SPAN_SECONDS)), last];
}

function select(plot: uPlot): void {
  const { left, width } = plot.select;
  if (width <= 0) {
    return;
  }
  const from = plot.posToVal(left, "x");
  const to = plot.posToVal(left + width, "x");
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  if (to - from >= MIN_ZOOM_SECONDS) {
    zoom.value = { from, to };
  }
}

/** Goes back to the present. */
export function follow(): null {
  zoom.value = undefined;
  return null;
}

function color(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}
