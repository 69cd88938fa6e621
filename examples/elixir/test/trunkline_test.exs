defmodule TrunklineTest do
  @moduledoc "Against the real program: TRUNKLINE names it, else it is looked for on the path."
  use ExUnit.Case

  @cancelled -32_800

  # One hub for all; the tests that hurt it have one of their own.
  setup_all do
    start_supervised!({Trunkline, options(:shared)})
    %{hub: :shared}
  end

  setup context do
    if context[:own_hub] do
      start_supervised!({Trunkline, options(:own)})
      %{hub: :own}
    else
      :ok
    end
  end

  defp options(name) do
    args = ["--packs", "none", "--methods", "trunkline.methods.debug", "--executors", "1"]
    [name: name, command: System.get_env("TRUNKLINE", "trunkline"), args: args]
  end

  defp eventually(condition, tries \\ 1000) do
    cond do
      condition.() -> :ok
      tries == 0 -> flunk("it does not happen")
      true -> Process.sleep(20) && eventually(condition, tries - 1)
    end
  end

  # The call that asks may count itself.
  defp active(hub), do: elem(Trunkline.call(hub, "health.check"), 1)["active_requests"]

  # One look: between two of them the process may end. A zombie has ended: whoever adopted it has not looked yet.
  defp alive?(os_pid) do
    case File.read("/proc/#{os_pid}/stat") do
      {:ok, stat} -> stat != "" and not (stat =~ ") Z ")
      {:error, _gone} -> false
    end
  end

  test "a call, and an error", %{hub: hub} do
    assert Trunkline.call(hub, "debug.echo", %{value: %{"a" => [1, "ü", nil]}}) ==
             {:ok, %{"a" => [1, "ü", nil]}}

    assert {:error, error} = Trunkline.call(hub, "debug.fail", %{message: "as asked"})
    assert error.type == "INTERNAL_ERROR"
    assert error.message =~ "RuntimeError"
    assert {:error, %{code: -32_601}} = Trunkline.call(hub, "no.such")

    assert {:error, %{type: "COMMUNICATION_TIMEOUT"}} =
             Trunkline.call(hub, "debug.sleep", %{seconds: 60}, timeout_ms: 50)
  end

  test "a hundred callers at once", %{hub: hub} do
    answers =
      1..100
      |> Enum.map(&Task.async(fn -> Trunkline.call(hub, "debug.echo", %{value: &1}) end))
      |> Task.await_many(60_000)

    assert answers == Enum.map(1..100, &{:ok, &1})
  end

  test "a stream", %{hub: hub} do
    {:ok, ref} = Trunkline.stream(hub, "debug.count", %{n: 200})

    chunks =
      for index <- 0..199,
          do: assert_receive({:trunkline, ^ref, {:chunk, "data", %{"index" => ^index}}}, 20_000)

    assert length(chunks) == 200
    assert_receive {:trunkline, ^ref, {:done, %{"chunks" => 200}}}, 20_000
  end

  test "a stream with a window waits for its reader", %{hub: hub} do
    {:ok, ref} = Trunkline.stream(hub, "debug.count", %{n: 100}, window: 10)
    for index <- 0..9, do: assert_receive({:trunkline, ^ref, {:chunk, _, %{"index" => ^index}}}, 20_000)
    refute_receive {:trunkline, ^ref, {:chunk, _, %{"index" => 30}}}, 300
    Trunkline.consumed(hub, ref, 10)
    assert_receive {:trunkline, ^ref, {:chunk, _, %{"index" => 15}}}, 20_000
    Trunkline.cancel(hub, ref)
    assert_receive {:trunkline, ^ref, {:error, %{code: @cancelled}}}, 20_000
  end

  test "a cancel", %{hub: hub} do
    {:ok, ref} = Trunkline.stream(hub, "debug.count", %{n: 1_000_000, interval_ms: 10})
    assert_receive {:trunkline, ^ref, {:chunk, _, _}}, 20_000
    Trunkline.cancel(hub, ref)

    assert_receive {:trunkline, ^ref, {:error, %Trunkline.Error{code: @cancelled, maybe_executed: true}}},
                   20_000
  end

  test "a caller that dies takes its call along", %{hub: hub} do
    idle = active(hub)
    caller = spawn(fn -> Trunkline.call(hub, "debug.sleep", %{seconds: 60}) end)
    eventually(fn -> active(hub) == idle + 1 end)
    Process.exit(caller, :kill)
    eventually(fn -> active(hub) == idle end)
  end

  test "events", %{hub: hub} do
    assert {:ok, %{"topic" => "jobs.*"}} = Trunkline.subscribe(hub, "jobs.*")
    assert {:ok, %{"offset" => 1}} = Trunkline.publish(hub, "jobs.a", %{done: 7})
    assert_receive {:trunkline_event, "jobs.a", %{"done" => 7}, %{"offset" => 1}}, 20_000
    {:ok, _} = Trunkline.publish(hub, "other.a", 1)
    refute_receive {:trunkline_event, "other.a", _, _}, 100
  end

  test "five megabytes both ways", %{hub: hub} do
    value = String.duplicate("0123456789\n", 500_000)
    assert Trunkline.call(hub, "debug.echo", %{value: value}) == {:ok, value}
  end

  @tag :own_hub
  test "kill -9 of the hub: open calls end as maybe executed, and it is started again", %{hub: hub} do
    os_pid = Trunkline.os_pid(hub)
    idle = active(hub)
    {:ok, ref} = Trunkline.stream(hub, "debug.count", %{n: 1_000_000, interval_ms: 10})
    call = Task.async(fn -> Trunkline.call(hub, "debug.sleep", %{seconds: 60}) end)
    assert_receive {:trunkline, ^ref, {:chunk, _, _}}, 20_000
    eventually(fn -> active(hub) == idle + 2 end)
    process = Process.whereis(hub)
    System.cmd("kill", ["-9", to_string(os_pid)])

    assert {:error, %Trunkline.Error{maybe_executed: true, message: message}} = Task.await(call, 20_000)
    assert message =~ "the hub is gone"
    assert_receive {:trunkline, ^ref, {:error, %Trunkline.Error{maybe_executed: true}}}, 20_000

    eventually(fn -> Process.whereis(hub) not in [nil, process] end)
    assert Trunkline.call(hub, "debug.echo", %{value: "again"}) == {:ok, "again"}
    assert Trunkline.os_pid(hub) != os_pid
  end

  @tag :own_hub
  test "stopping it ends the program and its executors", %{hub: hub} do
    {:ok, %{"pid" => executor}} = Trunkline.call(hub, "debug.pid")
    os_pid = Trunkline.os_pid(hub)
    assert alive?(executor)
    :ok = stop_supervised(Trunkline)
    eventually(fn -> not alive?(os_pid) and not alive?(executor) end)
    assert {:error, %Trunkline.Error{maybe_executed: false}} = Trunkline.call(hub, "debug.echo")
  end
end
