defmodule Trunkline.Error do
  @moduledoc """
  Why a call failed. `recovery` is `"retry"`, `"fallback"`, `"restart_process"` or `"fatal"`; `maybe_executed` says
  whether the work may have run, wholly or in part: whoever sends it again must be able to bear that.
  """
  defexception [:code, :message, :type, :recovery, maybe_executed: false, data: %{}]

  @doc "Reads an error object of the hub."
  def read(%{"code" => code, "message" => message} = error) do
    data = error["data"] || %{}

    %__MODULE__{
      code: code,
      message: message,
      type: data["type"],
      recovery: data["recovery"],
      maybe_executed: data["maybe_executed"] == true,
      data: data
    }
  end
end
