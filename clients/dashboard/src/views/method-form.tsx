/**
 * A form from a method's JSON Schema.
 */
import type { JSX } from "preact";
import { controlOf, hintOf } from "../core/form.ts";
import { duration } from "../core/format.ts";
import type { Method, Param } from "../core/openrpc.ts";
import { textOf } from "../core/reports.ts";
import { link } from "../hub/link.ts";
import { copy } from "../ui/copy.ts";
import { Panel } from "../ui/parts.tsx";
import { asked, cancelRun, form, run, start, streamed, timeoutMs, typed } from "./console-state.ts";

export function MethodForm({ method }: { readonly method: Method }): JSX.Element {
  const running = run.value?.outcome.kind === "running";
  return (
    <Panel title={method.name} note={method.summary} class="call">
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        {method.params.length === 0 && <p class="empty">This method has no parameters.</p>}
        {method.params.map((param) => (
          <ParamField key={param.name} param={param} />
        ))}
        <div class="submit">
          <button type="submit" class="primary" disabled={running || link.value.state !== "connected"}>
            {streamed.value ? "Stream it" : "Call it"}
          </button>
          <button type="button" disabled={!running} onClick={cancelRun}>
            Cancel
          </button>
          <label class="check">
            <input type="checkbox" checked={streamed.value} onChange={({ currentTarget }) => void (streamed.value = currentTarget.checked)} />
            as a stream
          </label>
          <label class="inline">
            Timeout
            <input
              class="short"
              inputMode="numeric"
              value={timeoutMs.value}
              placeholder={method.timeoutMs === undefined ? "default" : String(method.timeoutMs)}
              title={method.timeoutMs === undefined ? undefined : `Default of this method: ${duration(method.timeoutMs)}`}
              onInput={({ currentTarget }) => void (timeoutMs.value = currentTarget.value)}
            />
            ms
          </label>
          <button type="button" onClick={() => void copy(request(method.name), "the request")}>
            Copy as JSON
          </button>
        </div>
      </form>
    </Panel>
  );
}

function request(name: string): string {
  return JSON.stringify({ jsonrpc: "2.0", id: 1, method: name, params: form.value.params }, null, 2);
}

function ParamField({ param }: { readonly param: Param }): JSX.Element {
  const id = `param-${param.name}`;
  const text = typed.value[param.name] ?? "";
  const wrong = asked.value || text !== "" ? form.value.wrong[param.name] : undefined;
  const description = textOf(param.schema.description);
  return (
    <div class={wrong === undefined ? "field" : "field wrong"}>
      <label for={id}>
        <span class="mono">{param.name}</span>
        {!param.required && <span class="note"> optional</span>}
      </label>
      <Input id={id} param={param} text={text} wrong={wrong !== undefined} />
      <p class="hint" id={`${id}-hint`}>
        {wrong === undefined ? [hintOf(param), description].filter(Boolean).join(" · ") : `${param.name} ${wrong}`}
      </p>
    </div>
  );
}

interface InputProps {
  readonly id: string;
  readonly param: Param;
  readonly text: string;
  readonly wrong: boolean;
}

function Input({ id, param, text, wrong }: InputProps): JSX.Element {
  const control = controlOf(param.schema);
  const common = {
    id,
    "aria-describedby": `${id}-hint`,
    "aria-invalid": wrong,
    onInput: ({ currentTarget }: { currentTarget: { value: string } }): void => {
      typed.value = { ...typed.peek(), [param.name]: currentTarget.value };
    },
  };
  switch (control.kind) {
    case "choice":
      return (
        <select {...common} value={text}>
          <option value="">{param.required ? "choose" : "not set"}</option>
          {control.values.map((value) => (
            <option key={JSON.stringify(value)} value={JSON.stringify(value)}>
              {typeof value === "string" ? value : JSON.stringify(value)}
            </option>
          ))}
        </select>
      );
    case "number":
      return <input {...common} class="medium" inputMode={control.integer ? "numeric" : "decimal"} autocomplete="off" value={text} />;
    case "text":
      return control.long ? (
        <textarea {...common} rows={2} value={text} />
      ) : (
        <input {...common} autocomplete="off" value={text} />
      );
    case "json":
      return <textarea {...common} class="mono" rows={3} spellcheck={false} value={text} placeholder={control.type === "array" ? "[ ]" : control.type === "object" ? "{ }" : "null"} />;
  }
}
