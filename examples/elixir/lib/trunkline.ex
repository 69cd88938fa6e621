defmodule Trunkline do
  @moduledoc """
  A hub as a child of this BEAM: `trunkline stdio` behind a port, one process for all callers.

      children = [{Trunkline, name: Hub, args: ["--methods", "my_methods"]}]
      Supervisor.start_link(children, strategy: :one_for_one)

      {:ok, answer} = Trunkline.call(Hub, "rag.execute", %{query: "how does with work?"})

  Any number of processes may call at once; the hub spreads the work over its executors. When the hub's process dies,
  every open call ends as `{:error, %Trunkline.Error{maybe_executed: true}}`, this process stops, and its supervisor
  starts both again. When this BEAM dies, the hub reads the end of its input and ends, executors and all.

  Options of `start_link/1`: `:name`; `:command`, the program (found on the path if it has no slash); `:args`, options of
  `trunkline stdio`; `:env`, a list of `{name, value}` strings; `:cd`; `:start_timeout` in milliseconds.
  """
  use GenServer

  alias Trunkline.{Error, JSON}

  @cancelled -32_800
  @worker_crashed 2001
  @worker_unavailable 1001

  # --- for callers ---

  def start_link(options) do
    {name, options} = Keyword.split(options, [:name])
    GenServer.start_link(__MODULE__, options, name)
  end

  @doc """
  Calls a method: `{:ok, result}` or `{:error, %Trunkline.Error{}}`. The deadline is the hub's, 30 s unless
  `timeout_ms: n` is given; further `metadata: %{}` goes along. If the calling process dies, the call is cancelled.
  """
  def call(hub, method, params \\ %{}, options \\ []) do
    request(hub, {:call, method, params, metadata(options)})
  end

  @doc """
  Calls a streaming method. `{:ok, ref}` at once; then the process gets `{:trunkline, ref, {:chunk, type, data}}` for
  each chunk, and `{:trunkline, ref, {:done, result}}` or `{:trunkline, ref, {:error, error}}`.

  With `window: n` the hub sends at most n chunks that `consumed/3` has not told of, so that a slow reader's mailbox
  stays small.
  """
  def stream(hub, method, params \\ %{}, options \\ []) do
    request(hub, {:stream, method, params, metadata(options)})
  end

  @doc "Tells the hub how many chunks of a stream were consumed so far, in all."
  def consumed(hub, ref, count), do: GenServer.cast(hub, {:consumed, ref, count})

  @doc "Cancels a stream; it ends with an error whose code is #{@cancelled}."
  def cancel(hub, ref), do: GenServer.cast(hub, {:cancel, ref})

  @doc """
  Subscribes this process to a topic: `{:ok, position}`, then `{:trunkline_event, topic, data, position}` and, where
  events were lost, `{:trunkline_gap, gap}`. Subscriptions end with the hub's process: subscribe again after a restart.
  """
  def subscribe(hub, topic), do: request(hub, {:subscribe, topic})

  @doc "Publishes an event: `{:ok, position}` once it is stored."
  def publish(hub, topic, data), do: call(hub, "publish", %{topic: topic, data: data})

  @doc "The operating system's process id of the hub."
  def os_pid(hub), do: request(hub, :os_pid)

  defp request(hub, message) do
    GenServer.call(hub, message, :infinity)
  catch
    # It stopped while this call was on its way to it, or was not there: nothing was sent.
    :exit, reason -> {:error, %Error{code: @worker_unavailable, message: "no hub: #{inspect(reason)}"}}
  end

  defp metadata(options) do
    given = Keyword.get(options, :metadata, %{})
    given = if timeout = options[:timeout_ms], do: Map.put(given, :timeout_ms, timeout), else: given
    if window = options[:window], do: Map.put(given, :window, %{items: window}), else: given
  end

  # --- the process ---

  @impl true
  def init(options) do
    Process.flag(:trap_exit, true)
    port = open(options)

    # The handshake: the hub answers for itself, whether its executors are warm yet or not.
    send_message(port, %{jsonrpc: "2.0", id: 0, method: "rpc.ping"})

    receive do
      {^port, {:data, frame}} ->
        {:ok, %{"id" => 0, "result" => %{"pong" => true}}} = JSON.decode(frame)
        {:ok, %{port: port, last: 0, open: %{}, refs: %{}, monitors: %{}, topics: %{}}}

      {^port, {:exit_status, status}} ->
        {:stop, {:hub_exited, status}}

      {:EXIT, ^port, reason} ->
        {:stop, {:hub_exited, reason}}
    after
      Keyword.get(options, :start_timeout, 30_000) -> {:stop, :hub_does_not_answer}
    end
  end

  defp open(options) do
    command = Keyword.get(options, :command, "trunkline")
    program = System.find_executable(command) || raise "there is no program #{command}"
    env = for {name, value} <- Keyword.get(options, :env, []), do: {to_charlist(name), to_charlist(value)}
    args = ["stdio", "--framing", "packet4" | Keyword.get(options, :args, [])]
    settings = [:binary, :exit_status, {:packet, 4}, {:args, args}, {:env, env}]
    settings = if folder = options[:cd], do: [{:cd, folder} | settings], else: settings
    Port.open({:spawn_executable, program}, settings)
  end

  @impl true
  def handle_call(:os_pid, _from, state) do
    {:os_pid, pid} = Port.info(state.port, :os_pid)
    {:reply, pid, state}
  end

  def handle_call({:call, method, params, metadata}, {pid, _} = from, state) do
    {:noreply, ask(state, method, params, metadata, {:call, from}, pid)}
  end

  def handle_call({:stream, method, params, metadata}, {pid, _}, state) do
    ref = make_ref()
    state = ask(state, method, params, metadata, {:stream, ref, pid}, pid)
    {:reply, {:ok, ref}, %{state | refs: Map.put(state.refs, ref, state.last)}}
  end

  def handle_call({:subscribe, topic}, {pid, _} = from, state) do
    {:noreply, ask(state, "subscribe", %{topic: topic}, %{}, {:subscribe, topic, from}, pid)}
  end

  @impl true
  def handle_cast({:cancel, ref}, state) do
    with {:ok, id} <- Map.fetch(state.refs, ref), do: cancel_request(state, id)
    {:noreply, state}
  end

  def handle_cast({:consumed, ref, count}, state) do
    with {:ok, id} <- Map.fetch(state.refs, ref),
         do: notify(state, "stream.credit", %{request_id: id, consumed: count})

    {:noreply, state}
  end

  @impl true
  def handle_info({port, {:data, frame}}, %{port: port} = state) do
    {:ok, message} = JSON.decode(frame)
    {:noreply, receive_message(message, state)}
  end

  def handle_info({port, {:exit_status, status}}, %{port: port} = state),
    do: hub_gone({:hub_exited, status}, state)

  def handle_info({:EXIT, port, reason}, %{port: port} = state), do: hub_gone({:hub_exited, reason}, state)

  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    case Map.pop(state.monitors, monitor) do
      {nil, _} ->
        {:noreply, unsubscribe(state, pid)}

      {id, monitors} ->
        # nobody wants the outcome
        cancel_request(state, id)
        {:noreply, %{state | monitors: monitors}}
    end
  end

  def handle_info({:EXIT, _pid, reason}, state), do: {:stop, reason, state}

  # --- requests ---

  defp ask(state, method, params, metadata, about, pid) do
    id = state.last + 1
    message = %{jsonrpc: "2.0", id: id, method: method, params: params}
    send_message(state.port, if(metadata == %{}, do: message, else: Map.put(message, :metadata, metadata)))
    monitor = Process.monitor(pid)

    %{
      state
      | last: id,
        open: Map.put(state.open, id, {about, monitor}),
        monitors: Map.put(state.monitors, monitor, id)
    }
  end

  defp cancel_request(state, id), do: notify(state, "$/cancelRequest", %{id: id})

  defp notify(state, method, params) do
    send_message(state.port, %{jsonrpc: "2.0", method: method, params: params})
  end

  defp send_message(port, message), do: Port.command(port, JSON.encode!(message))

  # --- answers ---

  defp receive_message(%{"method" => "stream_chunk", "params" => chunk}, state) do
    with %{"request_id" => id, "is_final" => false} <- chunk,
         {{:stream, ref, pid}, _monitor} <- state.open[id] do
      send(pid, {:trunkline, ref, {:chunk, chunk["chunk_type"], chunk["data"]}})
    end

    state
  end

  defp receive_message(%{"method" => "event", "params" => event}, state) do
    position = Map.take(event, ["epoch", "offset"])

    for {pid, patterns} <- state.topics, Enum.any?(patterns, &reaches?(&1, event["topic"])) do
      send(pid, {:trunkline_event, event["topic"], event["data"], position})
    end

    state
  end

  defp receive_message(%{"method" => "event.gap", "params" => gap}, state) do
    for {pid, patterns} <- state.topics, Enum.any?(patterns, &reaches?(&1, gap["topic"])) do
      send(pid, {:trunkline_gap, gap})
    end

    state
  end

  defp receive_message(%{"id" => id} = reply, state) when is_map_key(state.open, id) do
    {{about, monitor}, open} = Map.pop(state.open, id)
    Process.demonitor(monitor, [:flush])
    state = %{state | open: open, monitors: Map.delete(state.monitors, monitor)}
    settle(about, outcome(reply), state)
  end

  defp receive_message(_other, state), do: state

  defp outcome(%{"error" => error}), do: {:error, Error.read(error)}
  defp outcome(%{"result" => result}), do: {:ok, result}

  defp settle(:nobody, _outcome, state), do: state

  defp settle({:call, from}, outcome, state) do
    GenServer.reply(from, outcome)
    state
  end

  defp settle({:stream, ref, pid}, outcome, state) do
    send(pid, {:trunkline, ref, with({:ok, result} <- outcome, do: {:done, result})})
    %{state | refs: Map.delete(state.refs, ref)}
  end

  defp settle({:subscribe, topic, {pid, _} = from}, {:ok, position}, state) do
    if not is_map_key(state.topics, pid), do: Process.monitor(pid)
    GenServer.reply(from, {:ok, position})
    %{state | topics: Map.update(state.topics, pid, [topic], &[topic | &1])}
  end

  defp settle({:subscribe, _topic, from}, error, state) do
    GenServer.reply(from, error)
    state
  end

  defp unsubscribe(state, pid) do
    {topics, others} = Map.pop(state.topics, pid, [])

    unused = Enum.reject(topics, fn topic -> Enum.any?(others, fn {_pid, kept} -> topic in kept end) end)

    Enum.reduce(unused, %{state | topics: others}, fn topic, state ->
      ask(state, "unsubscribe", %{topic: topic}, %{}, :nobody, self())
    end)
  end

  defp reaches?(pattern, topic), do: tokens_reach?(String.split(pattern, "."), String.split(topic, "."))

  defp tokens_reach?([">"], [_ | _]), do: true
  defp tokens_reach?(["*" | pattern], [_ | topic]), do: tokens_reach?(pattern, topic)
  defp tokens_reach?([token | pattern], [token | topic]), do: tokens_reach?(pattern, topic)
  defp tokens_reach?(pattern, topic), do: pattern == [] and topic == []

  defp hub_gone(reason, state) do
    error =
      {:error,
       %Error{code: @worker_crashed, message: "the hub is gone: #{inspect(reason)}", maybe_executed: true}}

    for {_id, {about, _monitor}} <- state.open, do: settle(about, error, state)
    {:stop, reason, %{state | open: %{}}}
  end
end
