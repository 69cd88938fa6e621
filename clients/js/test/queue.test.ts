import assert from "node:assert/strict";
import { test } from "node:test";
import { AsyncQueue } from "../src/queue.js";

const DONE = { done: true, value: undefined };

test("values come out in the order they went in, however reads and writes mix", async () => {
  const queue = new AsyncQueue<number>();
  const read = [];
  let written = 0;
  for (const [writes, reads] of [[3, 1], [2, 3], [1, 2], [4, 1], [0, 3]] as const) {
    for (let n = 0; n < writes; n += 1) {
      queue.push((written += 1));
    }
    for (let n = 0; n < reads; n += 1) {
      read.push((await queue.next()).value);
    }
  }
  assert.deepEqual(read, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});

test("the end comes after what is queued, and stays", async () => {
  const queue = new AsyncQueue<string>();
  queue.push("a");
  queue.end();
  queue.push("ignored");
  assert.deepEqual(await queue.next(), { done: false, value: "a" });
  assert.deepEqual(await queue.next(), DONE);
  assert.deepEqual(await queue.next(), DONE);
});

test("a failure comes after what is queued, once", async () => {
  const queue = new AsyncQueue<string>();
  queue.push("a");
  queue.fail(new Error("first"));
  queue.fail(new Error("second"));
  assert.deepEqual(await queue.next(), { done: false, value: "a" });
  await assert.rejects(queue.next(), /first/u);
  assert.deepEqual(await queue.next(), DONE);
});

test("a failure after the end does not count, and the other way round", async () => {
  const ended = new AsyncQueue<string>();
  ended.end();
  ended.fail(new Error("late"));
  assert.deepEqual(await ended.next(), DONE);
  const failed = new AsyncQueue<string>();
  failed.fail(new Error("first"));
  failed.end();
  await assert.rejects(failed.next(), /first/u);
});

test("of readers that wait, the first gets the failure, the others the end", async () => {
  const queue = new AsyncQueue<string>();
  const reads = [queue.next(), queue.next(), queue.next()];
  queue.push("a");
  queue.fail(new Error("broken"));
  assert.deepEqual(await reads[0], { done: false, value: "a" });
  await assert.rejects(reads[1] as Promise<unknown>, /broken/u);
  assert.deepEqual(await reads[2], DONE);
});

test("shift takes the oldest without waiting, and size counts", async () => {
  const queue = new AsyncQueue<string>();
  assert.deepEqual([queue.shift(), queue.size], [undefined, 0]);
  for (const value of ["a", "b", "c"]) {
    queue.push(value);
  }
  assert.equal(queue.size, 3);
  assert.equal((await queue.next()).value, "a");
  queue.push("d");
  assert.deepEqual([queue.size, queue.shift(), queue.shift(), queue.shift(), queue.size], [3, "b", "c", "d", 0]);
});

test("clear drops a failure, too", async () => {
  const queue = new AsyncQueue<string>();
  queue.fail(new Error("nobody wants to know"));
  queue.clear();
  assert.deepEqual(await queue.next(), DONE);
});

test("clear drops what is queued", async () => {
  const queue = new AsyncQueue<string>();
  for (const value of ["a", "b"]) {
    queue.push(value);
  }
  await queue.next();
  queue.push("c");
  queue.clear();
  queue.end();
  assert.deepEqual(await queue.next(), DONE);
});
