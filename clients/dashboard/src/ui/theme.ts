/**
 * Light or dark: as the system has it, until somebody chooses.
 */
import { computed, effect, signal } from "@preact/signals";

export type Scheme = "light" | "dark";

const KEY = "trunkline.scheme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemScheme = signal<Scheme>(system.matches ? "dark" : "light");
const kept = localStorage.getItem(KEY);
const chosen = signal<Scheme | undefined>(kept === "light" || kept === "dark" ? kept : undefined);

export const scheme = computed(() => chosen.value ?? systemScheme.value);

system.addEventListener("change", ({ matches }) => {
  systemScheme.value = matches ? "dark" : "light";
});

// Not later than the charts ask for colours: effects run in the order they were made.
effect(() => {
  document.documentElement.dataset.scheme = scheme.value;
});

export function toggleScheme(): void {
  chosen.value = scheme.value === "dark" ? "light" : "dark";
  localStorage.setItem(KEY, chosen.value);
}
