# A provider `openstack` of Vagrant for tests: it takes what vagrant-openstack-provider 0.13.0 takes and nothing else,
# makes real servers over plain HTTP, and has the faults that users of the real one meet. It shares no code with it.
#
# How to load it: the Vagrantfile in VAGRANT_HOME is read before that of the directory Vagrant works in, whoever calls
# Vagrant. `load_line` of tests/openstack/vagrant_plugin/__init__.py is the line to write there.
#
# The faults, always there:
# - A server that was deleted behind its back makes `status`, `up` and `destroy -f` fail for all machines, until
#   .vagrant/machines/NAME/openstack/id is removed.
# - The keypair it made goes only with a server that it still finds; floating addresses are never released, and one that
#   is free may be somebody's.
# - A server in ERROR is told without Nova's fault; the next `up` says that it was already created, and succeeds.
# - Of several networks the first has to be told by its name: by its id, no address of the server is found,
#   which `up` asks for, too, where Vagrant need not log in to know the guest.
# - All machines of a Vagrantfile land in the project whose password came first, whatever else they name.
#
# What it takes but cannot do: identity_api_version "2", volumes, volume_boot and stacks; it says so.
require "vagrant"

module StrictOpenStack
  autoload :Action, "#{__dir__}/strict_openstack/action"
  autoload :Build, "#{__dir__}/strict_openstack/build"
  autoload :Choice, "#{__dir__}/strict_openstack/choice"
  autoload :Config, "#{__dir__}/strict_openstack/config"
  autoload :Session, "#{__dir__}/strict_openstack/session"

  # What goes wrong, in a sentence that Vagrant prints before it exits with 1.
  class Fault < Vagrant::Errors::VagrantError
    attr_reader :error_message

    def initialize(sentence)
      @error_message = sentence
      super({})
    end
  end

  class Gone < Fault
    def initialize
      super("Vagrant was unable to find the OpenStack instance used for your vagrant machine.")
    end
  end

  class Provider < Vagrant.plugin("2", :provider)
    def initialize(machine)
      @machine = machine
    end

    def action(name)
      Action.public_send(name) if Action.respond_to?(name)
    end

    def state
      id = @machine.action(:read_state, lock: false)[:machine_state_id]
      words = id.to_s.tr("_", " ")
      Vagrant::MachineState.new(id, words, "The server is #{words}.")
    end

    def ssh_info
      @machine.action(:read_ssh_info, lock: false)[:machine_ssh_info]
    end

    def to_s = "strict OpenStack"
  end

  class Plugin < Vagrant.plugin("2")
    name "strict OpenStack"
    config(:openstack, :provider) { Config }
    provider(:openstack, box_optional: true, parallel: true) { Provider }
  end
end
