# The life of one server. Vagrant is told its id at once, and asks by it ever after.
require "timeout"

module StrictOpenStack
  class Build
    FLOATING = Mutex.new
    PAUSE_S = 0.5

    def initialize(machine)
      @machine = machine
      @config = machine.provider_config
      @session = Session.of(machine)
    end

    def state
      return :not_created if @machine.id.nil?

      server = details
      (server["OS-EXT-STS:task_state"] || server["status"]).downcase.to_sym
    end

    def create
      choice = Choice.new(@machine, @session)
      body = {server: choice.server, "os:scheduler_hints": @config.scheduler_hints}.compact
      @machine.id = @session.post(:compute, "servers", body)["server"]["id"]
      waiting(@config.server_create_timeout) { healthy["status"] == "ACTIVE" }
      FLOATING.synchronize { assign(choice.floating_ip) }
    end

    # The keypair's name is read of a server that may be gone by then.
    def destroy
      @session.delete(:compute, path)
      forget_keypair(details["key_name"])
      waiting(@config.server_delete_timeout) { deleted? }
      @machine.id = nil
    end

    def order(what)
      @session.post(:compute, "#{path}/action", {what => nil})
    end

    # That in the first network is looked for by the name of the network, which is not asked for where an id was told.
    def address
      all = details["addresses"]
      floating = all.values.flatten.find { |one| one["OS-EXT-IPS:type"] == "floating" }
      return floating["addr"] if floating

      first = @config.networks.first
      found = (all.size == 1) ? all.values.first : all[first.is_a?(Hash) ? first[:name] : first]
      found&.any? ? found.first["addr"] : raise(Fault, "Unable to resolve the server's address")
    end

    def key_name = details["key_name"]

    private

    def path = "servers/#{@machine.id}"

    def details = @session.get(:compute, path)["server"]

    # Nova's reason is not passed on.
    def healthy
      details.tap do |server|
        raise Fault, "Server '#{@machine.id}' is in error status." if server["status"] == "ERROR"
      end
    end

    def deleted?
      healthy["status"] == "DELETED"
    rescue Gone
      true
    end

    def forget_keypair(name)
      @session.delete(:compute, "os-keypairs/#{name}") if name.to_s.start_with?("vagrant-generated-")
    end

    def assign(address)
      return unless address

      @session.post(:compute, "#{path}/action", {addFloatingIp: {address: address}})
      waiting(@config.floating_ip_assign_timeout) do
        details["addresses"].values.flatten.any? { |one| one["addr"] == address }
      end
    end

    def waiting(seconds)
      Timeout.timeout(seconds) { sleep(PAUSE_S) until yield }
    rescue Timeout::Error
      raise Fault, "Timeout occurred"
    end
  end
end
